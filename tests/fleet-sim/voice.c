#include "tests/fleet-sim/voice.h"

#include "crypto/key.h"
#include "json/build.h"
#include "json/json.h"
#include "model/catalogue.h"
#include "tuf/tuf.h"

#include <stdio.h>

int voice_make(size_t i, struct voice *ret)
{
	*ret = (struct voice){ 0 };
	snprintf(ret->node, sizeof(ret->node), "n%05zu", i);
	snprintf(ret->boot_id, sizeof(ret->boot_id), "%08zx-0000-4000-8000-000000000001", i);
	snprintf(ret->site, sizeof(ret->site), "s%02zu", i % 12);
	return private_key_generate(&ret->key);
}

void voice_done(struct voice *v)
{
	private_key_free(v->key);
	v->key = NULL;
}

int voice_public(const struct voice *v, struct buf *ret_pem)
{
	return private_key_public_pem(v->key, ret_pem);
}

static char *text(const char *s)
{
	return (char *) (uintptr_t) s; /* the writer only reads */
}

int voice_report(struct voice *v, const char *fleet, const struct voice_words *w, struct buf *ret)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(json_freep)
	struct json *json = NULL;
	CLEANUP(buf_done)
	struct buf plain = BUF_INIT(REPORT_MAX_BYTES);
	const struct private_key *key = v->key;
	const struct catalogue_row *row = w->result ? catalogue_find(w->result) : NULL;
	struct label labels[] = { { text("site"), v->site }, { text("zone"), text("Europe/Oslo") } };
	struct report_component component = { .component = text("web"),
					      .version = text(w->version),
					      .previous = text(w->previous),
					      .rollout = text(w->rollout),
					      .stage = text(w->stage),
					      .seq = w->seq,
					      .why = text(w->why) };
	struct report_result result = { .update = text(w->update),
					.component = text("web"),
					.from = text(w->from),
					.to = text(w->version),
					.rollout = text(w->rollout),
					.stage = text(w->stage),
					.seq = w->seq,
					.number = (uint64_t) w->result,
					.name = row ? text(row->name) : NULL,
					.class = row ? text(result_class_name(row->class)) : NULL,
					.at = w->at,
					.duration_ms = 2000,
					.sequence = v->sequence + 1 };
	struct report_check check = { .component = text("web"),
				      .name = text("answers"),
				      .kind = text("httpGet"),
				      .state = text("passing") };
	const struct report r = {
		.fleet = text(fleet),
		.node = v->node,
		.boot_id = v->boot_id,
		.agent = text("0.1.0"),
		.sequence = ++v->sequence,
		.at = w->at,
		.generation = v->sequence,
		.root_version = 1,
		.targets_version = 1,
		.labels = { labels, ARRAY_LEN(labels) },
		.own_labels = { labels, ARRAY_LEN(labels) },
		.components = &component,
		.component_count = 1,
		.progress = { .update = w->state ? text(w->update) : NULL,
			      .component = text("web"),
			      .to = text(w->to),
			      .state = text(w->state) },
		.results = &result,
		.result_count = w->result ? 1 : 0,
		.checks = &check,
		.check_count = 1,
	};
	int e = report_write(&r, json_build_root(b));

	if (e == 0)
		e = json_build_text(b, false, &plain);
	if (e == 0)
		e = json_parse(plain.data, plain.len, &json_limits_default, &json);
	return e < 0 ? e : tuf_envelope_sign(json, &key, 1, ret);
}
