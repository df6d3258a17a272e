#include "model/enrolment.h"

#include "base/err.h"
#include "json/build.h"
#include "model/field.h"
#include "model/write.h"

#include <stdlib.h>
#include <string.h>

static const char type[] = "selfright-enrolment";
static const char *const known_fields[] = {
	"_type", "format", "fleet", "node", "identity", "request", "secret", "sequence", "must", NULL,
};
static const char *const known_answer_fields[] = { "format", "state", "certificate", "reason", "must", NULL };
static const char *const states[] = {
	[ENROLMENT_ISSUED] = "issued",
	[ENROLMENT_WAITING] = "waiting",
	[ENROLMENT_REFUSED] = "refused",
};

/* What follows is the business of crypto; here only that it is one text in PEM's clothes. */
static bool is_pem(const char *s)
{
	return str_starts(s, "-----BEGIN ");
}

static bool is_secret(const char *s)
{
	return strlen(s) == 2 * ENROLMENT_SECRET_BYTES && s[strspn(s, "0123456789abcdef")] == '\0';
}

static const struct text_rule rule_pem = { 4096, is_pem, "a PEM" };
static const struct text_rule rule_certificate = { 32 * 1024, is_pem, "a certificate in PEM" };
static const struct text_rule rule_secret = { 2 * ENROLMENT_SECRET_BYTES, is_secret, "the secret of a join file" };
static const struct text_rule rule_reason = { 255, NULL, "a sentence" };

int enrolment_parse(const struct json *doc, struct enrolment *ret, char **ret_error)
{
	struct field_error error = { 0 };
	struct fields f = fields_of(doc, &error);
	struct enrolment out = { .fleet = "" };

	field_type(&f, type);
	field_format(&f, ENROLMENT_FORMAT, known_fields);
	field_text_into(&f, "fleet", &rule_id, true, out.fleet, sizeof(out.fleet));
	field_text_into(&f, "node", &rule_id, true, out.node, sizeof(out.node));
	field_text_into(&f, "secret", &rule_secret, false, out.secret, sizeof(out.secret));
	out.identity = field_text(&f, "identity", &rule_pem, true);
	out.request = field_text(&f, "request", &rule_pem, true);
	out.sequence = field_u64(&f, "sequence", 0, UINT64_C(1) << 52, 0);
	if (error.r < 0) {
		enrolment_done(&out);
		return field_error_take(&error, ret_error);
	}
	*ret = out;
	return 0;
}

void enrolment_write(const struct enrolment *e, struct json_node *object)
{
	node_string(object, "_type", type);
	node_integer(object, "format", ENROLMENT_FORMAT);
	node_string(object, "fleet", e->fleet);
	node_string(object, "node", e->node);
	node_string(object, "identity", e->identity);
	node_string(object, "request", e->request);
	if (e->secret[0])
		node_string(object, "secret", e->secret);
	if (e->sequence > 0)
		write_u64(object, "sequence", e->sequence);
}

void enrolment_done(struct enrolment *e)
{
	if (!e)
		return;
	free(e->identity);
	free(e->request);
	explicit_bzero(e, sizeof(*e));
}

int enrolment_answer_parse(const struct json *doc, struct enrolment_answer *ret, char **ret_error)
{
	struct field_error error = { 0 };
	struct fields f = fields_of(doc, &error);
	struct enrolment_answer out = { .certificate = NULL };

	field_format(&f, ENROLMENT_FORMAT, known_answer_fields);
	out.state = (enum enrolment_state) field_choice(&f, "state", states, ARRAY_LEN(states), -1);
	out.certificate = field_text(&f, "certificate", &rule_certificate, false);
	field_text_into(&f, "reason", &rule_reason, false, out.reason, sizeof(out.reason));
	if (field_ok(&f) && (out.state == ENROLMENT_ISSUED) != (out.certificate != NULL))
		field_fail(&f, -ERR_FIELD_VALUE, "certificate", "must be there when it was issued, and only then");
	if (error.r < 0) {
		enrolment_answer_done(&out);
		return field_error_take(&error, ret_error);
	}
	*ret = out;
	return 0;
}

void enrolment_answer_write(const struct enrolment_answer *a, struct json_node *object)
{
	node_integer(object, "format", ENROLMENT_FORMAT);
	node_string(object, "state", states[a->state]);
	write_text(object, "certificate", a->certificate);
	if (a->reason[0])
		node_string(object, "reason", a->reason);
}

void enrolment_answer_done(struct enrolment_answer *a)
{
	if (!a)
		return;
	free(a->certificate);
	*a = (struct enrolment_answer){ .certificate = NULL };
}
