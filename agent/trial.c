#include "agent/trial.h"

#include "agent/link/protocol.h"
#include "agent/local/control.h"
#include "agent/phase/manifest.h"
#include "agent/phase/node.h"
#include "agent/phase/phase.h"
#include "base/text.h"
#include "json/build.h"
#include "json/json.h"
#include "model/release.h"
#include "os/frame.h"

/* An artifact the fleet side should have: that of something installed. Empty: there is none. */
static void find_artifact(struct node *n, struct buf *out)
{
	for (size_t i = 0; i < n->state->component_count && out->len == 0; i++) {
		const struct node_component *c = n->state->components[i];
		struct release release = { 0 };

		if (!c->version[0] || manifest_load(n, c->name, c->version, &release) < 0)
			continue;
		if (stage_artifact_name(&release, out) < 0)
			buf_clear(out); /* another one does as well */
		release_done(&release);
	}
}

void trial_answer_begin(struct node *n, struct buf *answer)
{
	CLEANUP(buf_done)
	struct buf artifact = BUF_INIT(4096);

	if (!n->link || !n->link_connected) {
		control_refuse(answer, CONTROL_REFUSED, "there is no connection to the broker to be tried");
		return;
	}
	if (n->trial_id != 0 && !n->trial_over)
		return;
	json_free(n->trial);
	n->trial = NULL;
	n->trial_over = false;
	n->trial_id++;
	find_artifact(n, &artifact);
	node_link_send(n, LINK_TRY, n->trial_id, artifact.data, artifact.len);
}

void trial_answer(const struct node *n, struct json_node *o)
{
	node_bool(o, "over", n->trial_over || n->trial_id == 0);
	if (n->trial)
		node_copy(o, "tried", n->trial);
}

/* The link is not trusted: read strictly, shown to people, and believed by nobody. */
void trial_take(struct node *n, const struct frame *f)
{
	static const struct json_limits limits = { .max_bytes = 8192, .max_depth = 4, .max_values = 64 };

	if (f->id != n->trial_id || n->trial_over)
		return; /* of one that nobody waits for any more */
	n->trial_over = true;
	if (json_parse(f->data, f->len, &limits, &n->trial) < 0)
		n->trial = NULL;
}

void trial_link_lost(struct node *n)
{
	n->trial_over = true;
}

void trial_done(struct node *n)
{
	json_free(n->trial);
	n->trial = NULL;
}
