/* release.json and policy.json: each field good, each field wrong, each limit; what is written reads back. */
#include "model/release.h"
#include "model_document.h"

static const char good[] =
	"{'format':1,'component':'web','version':'1.1.0','kind':'tree','compatible':{'role':'edge'},"
	"'requires':{'agent':'>=0.1.0','components':{'base':'>=1.0.0 <2.0.0','waf':'*'},'files':['/etc/web.key'],"
	"'vars':['port'],'free_bytes':1000000,'zone_data':'2025b','from':'1.0.0'},"
	"'artifacts':[{'path':'web/1.1.0/web.tar.zst','length':1234,'sha256':'" A64
	"','form':'full','media':'application/x-tar+zstd'},{'path':'web/1.1.0/delta','length':12,'sha256':'" Z64
	"','form':'delta','from':'1.0.0','media':'application/x-delta'}],"
	"'tree':{'digest':'" Z64 "','installed_size':5000,'files':12},"
	"'services':[{'name':'nginx','start':{'command':['bin/start','${vars.port}'],'user':'www-data'},"
	"'reload':{'command':['bin/"
	"reload']},'stop_signal':'SIGQUIT','stop_timeout':20,'stop_before_swap':true,'files':['bin/app','etc']},"
	"{'name':'sshd','unit':'ssh.service'}],"
	"'hooks':{'preflight':{'command':['bin/pre'],'timeout':5},'after_swap':{'command':['bin/"
	"after','${root}']}},"
	"'checks':[{'name':'answers','httpGet':{'port':'${vars.port}','path':'/healthz','expectBody':'ok'},"
	"'initialDelaySeconds':1,'periodSeconds':2,'timeoutSeconds':3,'successThreshold':4,'failureThreshold':5},"
	"{'name':'listens','tcpSocket':{'host':'::1','port':8080}},{'name':'runs','exec':{'command':['bin/"
	"check']}},"
	"{'name':'unit','unit':'ssh.service','required':false},{'name':'link','link':{},'must_fix':true},"
	"{'name':'tls','httpGet':{'scheme':'https','port':8443,'httpHeaders':[{'name':'Host','value':'a.example'}]"
	","
	"'expectStatus':'200-299,404','ca':'conf/ca.crt','serverName':'a.example'},'after':['answers']},"
	"{'name':'socket','httpGet':{'unixSocket':'run/app.sock','insecureSkipVerify':true,'scheme':'https'}},"
	"{'name':'errors','metric':{'port':9100,'path':'/metrics','select':'http_total{code=~\\\"5..\\\"}','of':"
	"'http_total','maxOfBefore':'1.5','max':'0.5','minSamples':100,'beforeSeconds':30},'deadlineSeconds':900},"
	"{'name':'lines','log':{'file':'error.log','match':['[error]'],'ignore':['client'],'maxPerMinute':5}},"
	"{'name':'word','status':{'file':'status.json','acceptDegraded':true}}],"
	"'probation':10,'watch':3600,'boot_attempts':2,'data':[{'path':'db','on_rollback':'restore'}],"
	"'data_compatible_back':false,'must':['checks','tree'],'changes':'faster','risk':'high','known_issues':'"
	"none',"
	"'post_deploy_checks':'look','expected_duration':60,'some_new_field':{'a':[1]}}";

static const char minimal[] =
	"{'format':1,'component':'web','version':'1.1.0','artifacts':[{'path':'web/1.1.0/w',"
	"'length':0,'sha256':'" Z64 "','media':'m'}],'tree':{'digest':'" Z64 "','installed_size':0,'files':0}}";

static void parse_good(const char *text, struct release *ret)
{
	CLEANUP(json_freep)
	struct json *doc = json_replaced(text, "{", "{");
	char *error = NULL;

	if (release_parse(doc, ret, &error) < 0)
		fail_msg("%s", error);
	assert_null(error);
}

static void test_every_field_is_read(void **state)
{
	CLEANUP(release_done)
	struct release r = { 0 };

	(void) state;
	parse_good(good, &r);
	assert_string_equal(r.component, "web");
	assert_string_equal(r.version, "1.1.0");
	assert_string_equal(r.kind, "tree");
	assert_string_equal(labels_get(&r.compatible, "role"), "edge");
	assert_string_equal(r.requires_agent, ">=0.1.0");
	assert_int_equal(r.requires_component_count, 2);
	assert_string_equal(r.requires_components[0].component, "base");
	assert_string_equal(r.requires_components[0].range, ">=1.0.0 <2.0.0");
	assert_true(string_list_has(&r.requires_files, "/etc/web.key"));
	assert_true(string_list_has(&r.requires_vars, "port"));
	assert_int_equal(r.requires_free_bytes, 1000000);
	assert_string_equal(r.requires_from, "1.0.0");
	assert_string_equal(r.requires_zone_data, "2025b");
	assert_int_equal(r.artifact_count, 2);
	assert_string_equal(r.artifacts[0].path, "web/1.1.0/web.tar.zst");
	assert_int_equal(r.artifacts[0].length, 1234);
	assert_int_equal(r.artifacts[0].sha256[31], 0xaa);
	assert_false(r.artifacts[0].is_delta);
	assert_string_equal(r.artifacts[0].media, "application/x-tar+zstd");
	assert_true(r.artifacts[1].is_delta);
	assert_string_equal(r.artifacts[1].from, "1.0.0");
	assert_int_equal(r.installed_size, 5000);
	assert_int_equal(r.files, 12);
	assert_int_equal(r.service_count, 2);
	assert_string_equal(r.services[0].start.argv.items[1], "${vars.port}");
	assert_string_equal(r.services[0].start.user, "www-data");
	assert_int_equal(r.services[0].start.timeout_s, 60);
	assert_string_equal(r.services[0].reload.argv.items[0], "bin/reload");
	assert_string_equal(r.services[0].stop_signal, "SIGQUIT");
	assert_int_equal(r.services[0].stop_timeout_s, 20);
	assert_true(r.services[0].stop_before_swap);
	assert_int_equal(r.services[0].files.count, 2);
	assert_string_equal(r.services[0].files.items[1], "etc");
	assert_true(release_service_equal(&r.services[0], &r.services[0]));
	assert_false(release_service_equal(&r.services[0], &r.services[1]));
	assert_string_equal(r.services[1].unit, "ssh.service");
	assert_string_equal(r.services[1].stop_signal, "SIGTERM");
	assert_int_equal(r.services[1].stop_timeout_s, 10);
	assert_int_equal(r.hooks.preflight.timeout_s, 5);
	assert_int_equal(r.hooks.before_swap.argv.count, 0);
	assert_string_equal(r.hooks.after_swap.argv.items[1], "${root}");
	assert_int_equal(r.check_count, 10);
	assert_int_equal(r.checks[0].kind, CHECK_HTTP_GET);
	assert_string_equal(r.checks[0].http.scheme, "http");
	assert_string_equal(r.checks[0].http.host, "127.0.0.1");
	assert_string_equal(r.checks[0].http.port, "${vars.port}");
	assert_string_equal(r.checks[0].http.path, "/healthz");
	assert_string_equal(r.checks[0].http.expect_body, "ok");
	assert_int_equal(r.checks[0].initial_delay_s, 1);
	assert_int_equal(r.checks[0].period_s, 2);
	assert_int_equal(r.checks[0].timeout_s, 3);
	assert_int_equal(r.checks[0].success_threshold, 4);
	assert_int_equal(r.checks[0].failure_threshold, 5);
	assert_string_equal(r.checks[1].tcp.host, "::1");
	assert_string_equal(r.checks[1].tcp.port, "8080");
	assert_int_equal(r.checks[2].kind, CHECK_EXEC);
	assert_string_equal(r.checks[3].unit, "ssh.service");
	assert_false(r.checks[3].required);
	assert_int_equal(r.checks[4].kind, CHECK_LINK);
	assert_true(r.checks[4].must_fix);
	assert_int_equal(r.checks[4].deadline_s, 300);
	assert_string_equal(r.checks[5].http.headers[0].name, "Host");
	assert_string_equal(r.checks[5].http.headers[0].value, "a.example");
	assert_string_equal(r.checks[5].http.expect_status, "200-299,404");
	assert_true(check_status_is_expected(r.checks[5].http.expect_status, 404));
	assert_false(check_status_is_expected(r.checks[5].http.expect_status, 301));
	assert_true(check_status_is_expected(NULL, 301));
	assert_false(check_status_is_expected(NULL, 404));
	assert_string_equal(r.checks[5].http.ca, "conf/ca.crt");
	assert_string_equal(r.checks[5].http.server_name, "a.example");
	assert_string_equal(r.checks[5].after.items[0], "answers");
	assert_string_equal(r.checks[6].http.unix_socket, "run/app.sock");
	assert_null(r.checks[6].http.port);
	assert_true(r.checks[6].http.insecure_skip_verify);
	assert_int_equal(r.checks[7].kind, CHECK_METRIC);
	assert_string_equal(r.checks[7].http.path, "/metrics");
	assert_string_equal(r.checks[7].metric.select, "http_total{code=~\"5..\"}");
	assert_string_equal(r.checks[7].metric.of, "http_total");
	assert_string_equal(r.checks[7].metric.max_of_before, "1.5");
	assert_string_equal(r.checks[7].metric.max, "0.5");
	assert_int_equal(r.checks[7].metric.min_samples, 100);
	assert_int_equal(r.checks[7].metric.before_s, 30);
	assert_int_equal(r.checks[7].deadline_s, 900);
	assert_int_equal(r.checks[8].log.max_per_minute, 5);
	assert_true(r.checks[8].log.max_new_kinds ==
		    UINT64_MAX); /* who bounds the rate need not bound the kinds */
	assert_string_equal(r.checks[8].log.match.items[0], "[error]");
	assert_true(r.checks[9].status.accept_degraded);
	assert_int_equal(r.probation_s, 10);
	assert_int_equal(r.watch_s, 3600);
	assert_int_equal(r.boot_attempts, 2);
	assert_string_equal(r.data[0].path, "db");
	assert_true(r.data[0].restore_on_rollback);
	assert_false(r.data_compatible_back);
	assert_string_equal(r.changes, "faster");
	assert_string_equal(r.risk, "high");
	assert_string_equal(r.known_issues, "none");
	assert_string_equal(r.post_deploy_checks, "look");
	assert_int_equal(r.expected_duration_s, 60);
}

static void test_defaults(void **state)
{
	CLEANUP(release_done)
	struct release r = { 0 }, with_check = { 0 };
	CLEANUP(json_freep)
	struct json *doc = json_replaced(minimal, "'format':1", "'format':1,'checks':[{'name':'a','link':{}}]");

	(void) state;
	parse_good(minimal, &r);
	assert_string_equal(r.kind, "tree");
	assert_string_equal(r.risk, "low");
	assert_int_equal(r.probation_s, 60);
	assert_int_equal(r.watch_s, 0);
	assert_int_equal(r.boot_attempts, 3);
	assert_true(r.data_compatible_back);
	assert_null(r.changes);
	assert_null(r.requires_agent);
	assert_int_equal(release_parse(doc, &with_check, NULL), 0);
	assert_int_equal(with_check.checks[0].initial_delay_s, 0);
	assert_int_equal(with_check.checks[0].period_s, 10);
	assert_int_equal(with_check.checks[0].timeout_s, 1);
	assert_int_equal(with_check.checks[0].success_threshold, 1);
	assert_int_equal(with_check.checks[0].failure_threshold, 3);
	assert_true(with_check.checks[0].required);
	assert_false(with_check.checks[0].must_fix);
}

static const struct wrong wrongs[] = {
	{ "'format':1,", "", -ERR_FIELD_MISSING, "format: is missing" },
	{ "'format':1", "'format':2", -ERR_AGENT_TOO_OLD, "format: is 2" },
	{ "'format':1", "'format':'1'", -ERR_FIELD_TYPE, "format: must be an integer" },
	{ "'must':['checks'", "'must':['metrics'", -ERR_AGENT_TOO_OLD, "must: names \"metrics\"" },
	{ "'must':['checks'", "'must':[7", -ERR_FIELD_TYPE, "must[0]: must be a string" },
	{ "'component':'web',", "", -ERR_FIELD_MISSING, "component: is missing" },
	{ "'component':'web'", "'component':'Web'", -ERR_FIELD_VALUE, "component: must be an id" },
	{ "'component':'web'", "'component':'../web'", -ERR_FIELD_VALUE, "component: must be an id" },
	{ "'component':'web'", "'component':''", -ERR_FIELD_VALUE, "component: must be an id" },
	{ "'version':'1.1.0'", "'version':'1.1'", -ERR_FIELD_VALUE, "version: must be a version" },
	{ "'version':'1.1.0'", "'version':110", -ERR_FIELD_TYPE, "version: must be a string" },
	{ "'kind':'tree'", "'kind':'A tree'", -ERR_FIELD_VALUE, "kind: must be an id" },
	{ "'compatible':{'role':'edge'}", "'compatible':{'Role':'edge'}", -ERR_FIELD_VALUE,
	  "compatible: must be" },
	{ "'compatible':{'role':'edge'}", "'compatible':{'role':7}", -ERR_FIELD_TYPE, "compatible: must be" },
	{ "'compatible':{'role':'edge'}", "'compatible':[]", -ERR_FIELD_TYPE, "compatible: must be an object" },
	{ "'agent':'>=0.1.0'", "'agent':'new'", -ERR_FIELD_VALUE, "requires.agent: must be a range" },
	{ "'base':'>=1.0.0 <2.0.0'", "'base':'1.x'", -ERR_FIELD_VALUE,
	  "requires.components.base: must be a range" },
	{ "'base':'>=1.0.0 <2.0.0'", "'b/b':'*'", -ERR_NAME, "requires.components: must name" },
	{ "'/etc/web.key'", "'etc/web.key'", -ERR_FIELD_VALUE, "requires.files[0]: must be an absolute path" },
	{ "'/etc/web.key'", "'/etc/../web.key'", -ERR_FIELD_VALUE, "requires.files[0]: must be an absolute path" },
	{ "'vars':['port']", "'vars':['PORT']", -ERR_FIELD_VALUE, "requires.vars[0]: must be a name" },
	{ "'free_bytes':1000000", "'free_bytes':-1", -ERR_FIELD_VALUE, "requires.free_bytes: must be from 0 to" },
	{ "'zone_data':'2025b'", "'zone_data':'new'", -ERR_FIELD_VALUE, "requires.zone_data: must be an edition" },
	{ "'from':'1.0.0'}", "'from':'old'}", -ERR_FIELD_VALUE, "requires.from: must be a version" },
	{ "'path':'web/1.1.0/web.tar.zst'", "'path':'/web'", -ERR_FIELD_VALUE,
	  "artifacts[0].path: must be a relative path" },
	{ "'path':'web/1.1.0/web.tar.zst'", "'path':'web/../x'", -ERR_FIELD_VALUE,
	  "artifacts[0].path: must be a relative path" },
	{ "'length':1234,", "", -ERR_FIELD_MISSING, "artifacts[0].length: is missing" },
	{ "'length':1234", "'length':4398046511105", -ERR_FIELD_VALUE, "artifacts[0].length: must be from" },
	{ "'sha256':'aaaa", "'sha256':'aaa", -ERR_FIELD_VALUE, "artifacts[0].sha256: must be a SHA-256" },
	{ "'sha256':'aaaa", "'sha256':'AAAA", -ERR_FIELD_VALUE, "artifacts[0].sha256: must be a SHA-256" },
	{ "'form':'full'", "'form':'half'", -ERR_FIELD_VALUE, "artifacts[0].form: must be one of full, delta" },
	{ "'form':'full'", "'form':'full','from':'1.0.0'", -ERR_FIELD_VALUE,
	  "artifacts[0].from: belongs to deltas" },
	{ "'form':'delta','from':'1.0.0'", "'form':'delta'", -ERR_FIELD_MISSING, "artifacts[1].from: is missing" },
	{ "'form':'full'", "'form':'delta','from':'1.0.0'", -ERR_FIELD_VALUE,
	  "artifacts: must hold a full artifact" },
	{ "'media':'application/x-tar+zstd'", "'media':'a b'", -ERR_FIELD_VALUE,
	  "artifacts[0].media: must be a word" },
	{ "'digest':'0", "'digest':'z", -ERR_FIELD_VALUE, "tree.digest: must be a SHA-256" },
	{ "'installed_size':5000,", "", -ERR_FIELD_MISSING, "tree.installed_size: is missing" },
	{ "'files':12", "'files':10000001", -ERR_FIELD_VALUE, "tree.files: must be from 0 to 10000000" },
	{ "'name':'nginx'", "'name':'ngi nx'", -ERR_FIELD_VALUE, "services[0].name: must be an id" },
	{ "'name':'sshd'", "'name':'nginx'", -ERR_FIELD_VALUE, "services[1].name: stands twice" },
	{ "'name':'nginx',", "'name':'nginx','unit':'a.service',", -ERR_FIELD_VALUE,
	  "services[0]: needs exactly one of unit and start" },
	{ "'unit':'ssh.service'}]", "'unit':'--now.service'}]", -ERR_FIELD_VALUE,
	  "services[1].unit: must be the name" },
	{ "'unit':'ssh.service'}]", "'unit':'a b.service'}]", -ERR_FIELD_VALUE,
	  "services[1].unit: must be the name" },
	{ ",'unit':'ssh.service'}]", "}]", -ERR_FIELD_VALUE, "services[1]: needs exactly one" },
	{ "'command':['bin/start'", "'command':[''", -ERR_FIELD_VALUE, "services[0].start.command[0]: must name" },
	{ "'command':['bin/reload']", "'command':[]", -ERR_FIELD_VALUE,
	  "services[0].reload.command: must have from 1" },
	{ "'command':['bin/reload']", "'command':'bin/reload'", -ERR_FIELD_TYPE,
	  "services[0].reload.command: must be" },
	{ "'${vars.port}'],'user'", "'${HOME}'],'user'", -ERR_FIELD_VALUE,
	  "services[0].start.command[1]: must be without" },
	{ "'${vars.port}'],'user'", "'${vars.port'],'user'", -ERR_FIELD_VALUE,
	  "services[0].start.command[1]: must be" },
	{ "'user':'www-data'", "'user':'-rf'", -ERR_FIELD_VALUE, "services[0].start.user: must be the name" },
	{ "'user':'www-data'", "'user':'0'", -ERR_FIELD_VALUE, "services[0].start.user: must be the name" },
	{ "'SIGQUIT'", "'SIGSTOP'", -ERR_FIELD_VALUE, "services[0].stop_signal: must be one of" },
	{ "'stop_timeout':20", "'stop_timeout':0", -ERR_FIELD_VALUE, "services[0].stop_timeout: must be from 1" },
	{ "'files':['bin/app'", "'files':['../app'", -ERR_FIELD_VALUE, "services[0].files[0]: must be" },
	{ "'files':['bin/app'", "'files':['/bin/app'", -ERR_FIELD_VALUE, "services[0].files[0]: must be" },
	{ "'files':['bin/app'", "'files':[7", -ERR_FIELD_TYPE, "services[0].files[0]: must be" },
	{ "'stop_before_swap':true", "'stop_before_swap':1", -ERR_FIELD_TYPE,
	  "services[0].stop_before_swap: must be true" },
	{ "'timeout':5", "'timeout':86401", -ERR_FIELD_VALUE, "hooks.preflight.timeout: must be from 1" },
	{ "'preflight':{", "'preflight':'x','before_swap':{", -ERR_FIELD_TYPE,
	  "hooks.preflight: must be an object" },
	{ "'name':'answers'", "'name':'link'", -ERR_FIELD_VALUE, "checks[4].name: stands twice" },
	{ "'httpGet':{", "'grpc':{", -ERR_AGENT_TOO_OLD, "checks[0]: has no kind this agent knows" },
	{ "'name':'link','link':{}", "'name':'link'", -ERR_FIELD_MISSING, "checks[4]: has no kind" },
	{ "'name':'link','link':{}", "'name':'link','link':{},'log':{}", -ERR_FIELD_VALUE,
	  "checks[4]: has two kinds" },
	{ "'port':'${vars.port}'", "'port':'http'", -ERR_FIELD_VALUE, "checks[0].httpGet.port: must be a port" },
	{ "'port':'${vars.port}'", "'port':0", -ERR_FIELD_VALUE, "checks[0].httpGet.port: must be from 1" },
	{ "'port':'${vars.port}'", "'port':65536", -ERR_FIELD_VALUE, "checks[0].httpGet.port: must be from 1" },
	{ "'port':'${vars.port}',", "", -ERR_FIELD_MISSING, "checks[0].httpGet.port: is missing" },
	{ "'port':'${vars.port}'", "'port':'1','scheme':'ftp'", -ERR_FIELD_VALUE,
	  "checks[0].httpGet.scheme: must be one" },
	{ "'path':'/healthz'", "'path':'/a b'", -ERR_FIELD_VALUE, "checks[0].httpGet.path: must be a path" },
	{ "'path':'/healthz'", "'path':'x'", -ERR_FIELD_VALUE, "checks[0].httpGet.path: must be a path" },
	{ "'path':'/healthz'", "'path':'/\\r\\nX: y'", -ERR_FIELD_VALUE,
	  "checks[0].httpGet.path: must be a path" },
	{ "'host':'::1'", "'host':'a b'", -ERR_FIELD_VALUE, "checks[1].tcpSocket.host: must be an address" },
	{ "'unit':'ssh.service','required'", "'unit':{},'required'", -ERR_FIELD_TYPE,
	  "checks[3].unit: must be a string" },
	{ "'periodSeconds':2", "'periodSeconds':0", -ERR_FIELD_VALUE, "checks[0].periodSeconds: must be from 1" },
	{ "'timeoutSeconds':3", "'timeoutSeconds':3601", -ERR_FIELD_VALUE,
	  "checks[0].timeoutSeconds: must be from 1" },
	{ "'successThreshold':4", "'successThreshold':0", -ERR_FIELD_VALUE,
	  "checks[0].successThreshold: must be from" },
	{ "'failureThreshold':5", "'failureThreshold':101", -ERR_FIELD_VALUE,
	  "checks[0].failureThreshold: must be from" },
	{ "'required':false", "'required':'no'", -ERR_FIELD_TYPE, "checks[3].required: must be true or false" },
	{ "'probation':10", "'probation':86401", -ERR_FIELD_VALUE, "probation: must be from 0" },
	{ "'watch':3600", "'watch':true", -ERR_FIELD_TYPE, "watch: must be an integer" },
	{ "'boot_attempts':2", "'boot_attempts':0", -ERR_FIELD_VALUE, "boot_attempts: must be from 1 to 10" },
	{ "'path':'db'", "'path':'../db'", -ERR_FIELD_VALUE, "data[0].path: must be a relative path" },
	{ "'on_rollback':'restore'", "'on_rollback':'drop'", -ERR_FIELD_VALUE,
	  "data[0].on_rollback: must be one of" },
	{ "'data':[{", "'data':[7,{", -ERR_FIELD_TYPE, "data[0]: must be an object" },
	{ "'risk':'high'", "'risk':'none'", -ERR_FIELD_VALUE, "risk: must be one of low, medium, high" },
	{ "'changes':'faster'", "'changes':['faster']", -ERR_FIELD_TYPE, "changes: must be a string" },
	{ "'expected_duration':60", "'expected_duration':-5", -ERR_FIELD_VALUE,
	  "expected_duration: must be from 0" },
	{ "'expectStatus':'200-299,404'", "'expectStatus':'200-'", -ERR_FIELD_VALUE,
	  "checks[5].httpGet.expectStatus: must be statuses" },
	{ "'expectStatus':'200-299,404'", "'expectStatus':'299-200'", -ERR_FIELD_VALUE,
	  "checks[5].httpGet.expectStatus: must be statuses" },
	{ "'expectStatus':'200-299,404'", "'expectStatus':'200,'", -ERR_FIELD_VALUE,
	  "checks[5].httpGet.expectStatus: must be statuses" },
	{ "'name':'Host'", "'name':'Ho st'", -ERR_FIELD_VALUE,
	  "checks[5].httpGet.httpHeaders[0].name: must be the name" },
	{ "'name':'Host'", "'name':'content-length'", -ERR_FIELD_VALUE,
	  "checks[5].httpGet.httpHeaders[0].name: must be the name" },
	{ "'value':'a.example'", "'value':'a\\r\\nX: y'", -ERR_FIELD_VALUE,
	  "checks[5].httpGet.httpHeaders[0].value: must be one line" },
	{ "'ca':'conf/ca.crt'", "'ca':'../ca.crt'", -ERR_FIELD_VALUE, "checks[5].httpGet.ca: must be a path" },
	{ "'ca':'conf/ca.crt'", "'insecureSkipVerify':true", -ERR_FIELD_VALUE,
	  "checks[5].httpGet: has insecureSkipVerify" },
	{ "'scheme':'https','port':8443", "'port':8443", -ERR_FIELD_VALUE,
	  "checks[5].httpGet: names ca, serverName or insecureSkipVerify" },
	{ "'after':['answers']", "'after':['word']", -ERR_FIELD_VALUE, "checks[5].after: must name checks that" },
	{ "'after':['answers']", "'after':['tls']", -ERR_FIELD_VALUE, "checks[5].after: must name checks that" },
	{ "'of':'http_total'", "'of':'sum(a)'", -ERR_FIELD_VALUE, "checks[7].metric.of: must be a selector" },
	{ "'of':'http_total'", "'of':'http_total','rate':true", -ERR_FIELD_VALUE,
	  "checks[7].metric: has rate and of" },
	{ "'maxOfBefore':'1.5'", "'maxOfBefore':'-1'", -ERR_FIELD_VALUE,
	  "checks[7].metric.maxOfBefore: must be a decimal" },
	{ "'max':'0.5'", "'max':'1e3'", -ERR_FIELD_VALUE, "checks[7].metric.max: must be a decimal" },
	{ "'max':'0.5'", "'max':'.5'", -ERR_FIELD_VALUE, "checks[7].metric.max: must be a decimal" },
	{ "'maxOfBefore':'1.5','max':'0.5',", "", -ERR_FIELD_MISSING, "checks[7].metric: needs one of min, max" },
	{ "'minSamples':100", "'minSamples':0", -ERR_FIELD_VALUE, "checks[7].metric.minSamples: must be from" },
	{ "'port':9100,", "", -ERR_FIELD_MISSING, "checks[7].metric.port: is missing" },
	{ "'deadlineSeconds':900", "'deadlineSeconds':86401", -ERR_FIELD_VALUE,
	  "checks[7].deadlineSeconds: must be from" },
	{ "'log':{'file':'error.log'", "'log':{'file':'error.log','unit':'a.service'", -ERR_FIELD_VALUE,
	  "checks[8].log: needs exactly one of unit and file" },
	{ "'match':['[error]']", "'match':['']", -ERR_FIELD_VALUE, "checks[8].log.match[0]: must be one line" },
	{ "'file':'status.json'", "'file':'a//b'", -ERR_FIELD_VALUE, "checks[9].status.file: must be a path" },
	{ "'file':'status.json'", "'file':'a','command':['b']", -ERR_FIELD_VALUE,
	  "checks[9].status: needs exactly one of file and command" },
	{ "'file':'status.json'", "'user':'a'", -ERR_FIELD_MISSING, "checks[9].status.command: is missing" },
	/* Odd, but fine. */
	{ "'port':'${vars.port}'", "'port':8080", 0, "" },
	{ "'form':'full',", "", 0, "" },
};

static void test_every_wrong_field_is_named(void **state)
{
	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(wrongs); i++) {
		CLEANUP(release_done)
		struct release r = { 0 };
		CLEANUP(json_freep)
		struct json *doc = NULL;
		char *error = NULL;
		int result;

		doc = json_replaced(good, wrongs[i].from, wrongs[i].to);
		result = release_parse(doc, &r, &error);
		expect_error(&wrongs[i], result, &error);
		free(error);
		if (result < 0)
			assert_null(r.component); /* untouched */
	}
}

static void test_limits_on_counts(void **state)
{
	static const struct {
		const char *from, *before, *element, *after;
		size_t max;
		const char *names;
	} limits[] = {
		{ "'services':[", "'services':[", "{'name':'s%zu','unit':'a.service'}", "],'was_services':[",
		  RELEASE_SERVICES_MAX, "services: must have" },
		{ "'checks':[", "'checks':[", "{'name':'c%zu','link':{}}", "],'was_checks':[", RELEASE_CHECKS_MAX,
		  "checks: must have" },
		{ "'data':[", "'data':[", "{'path':'d%zu'}", "],'was_data':[", RELEASE_DATA_MAX,
		  "data: must have" },
		{ "'artifacts':[", "'artifacts':[", "{'path':'a%zu','length':1,'sha256':'" Z64 "','media':'m'}",
		  "],'was_artifacts':[", RELEASE_ARTIFACTS_MAX, "artifacts: must have" },
		{ "'components':{", "'components':{", "'c%zu':'*'", "},'was_components':{", RELEASE_REQUIRES_MAX,
		  "requires.components: must have" },
		{ "'files':[", "'files':[", "'/f%zu'", "],'was_files':[", RELEASE_REQUIRES_MAX,
		  "requires.files: must have" },
		{ "'command':['bin/pre'", "'command':[", "'a%zu'", "],'was':['x'", RELEASE_ARGV_MAX,
		  "hooks.preflight.command: must have" },
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(limits); i++) {
		for (size_t over = 0; over < 2; over++) {
			CLEANUP(release_done)
			struct release r = { 0 };
			CLEANUP(json_freep)
			struct json *doc = NULL;
			CLEANUP(buf_done)
			struct buf to = BUF_INIT(1024 * 1024);
			struct wrong w = { .error = over ? -ERR_FIELD_VALUE : 0, .names = limits[i].names };
			char *elements = many(limits[i].element, limits[i].max + over), *error = NULL;

			assert_int_equal(buf_addf(&to, "%s%s%s", limits[i].before, elements, limits[i].after), 0);
			doc = json_replaced(good, limits[i].from, buf_str(&to));
			w.to = limits[i].names;
			expect_error(&w, release_parse(doc, &r, &error), &error);
			free(elements);
			free(error);
		}
	}
}

static void test_limits_on_lengths(void **state)
{
	static const struct {
		const char *from, *name;
		size_t max;
		const char *names;
	} limits[] = {
		{ "'changes':'faster'", "changes", 16 * 1024, "changes: must be at most 16384 bytes" },
		{ "'component':'web'", "component", 63, "component: must be" },
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(limits); i++)
		for (size_t over = 0; over < 2; over++) {
			CLEANUP(release_done)
			struct release r = { 0 };
			CLEANUP(json_freep)
			struct json *doc = NULL;
			CLEANUP(buf_done)
			struct buf to = BUF_INIT(1024 * 1024);
			struct wrong w = { .to = limits[i].name,
					   .error = over ? -ERR_FIELD_VALUE : 0,
					   .names = limits[i].names };
			char *error = NULL;

			assert_int_equal(buf_addf(&to, "'%s':'", limits[i].name), 0);
			for (size_t k = 0; k < limits[i].max + over; k++)
				assert_int_equal(buf_add_byte(&to, 'x'), 0);
			assert_int_equal(buf_add_byte(&to, '\''), 0);
			doc = json_replaced(good, limits[i].from, buf_str(&to));
			expect_error(&w, release_parse(doc, &r, &error), &error);
			free(error);
		}
}

static void test_what_is_no_object(void **state)
{
	static const char *const texts[] = { "[]", "7", "'x'", "null", "true" };

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		char *text = unquote(texts[i]), *error = NULL;
		CLEANUP(json_freep)
		struct json *doc = json_of(text);
		CLEANUP(release_done)
		struct release r = { 0 };

		assert_int_equal(release_parse(doc, &r, &error), -ERR_FIELD_TYPE);
		assert_string_equal(error, "the document: must be an object");
		assert_int_equal(release_parse(NULL, &r, NULL), -ERR_FIELD_TYPE);
		free(error);
		free(text);
	}
}

static void write_canonical(const struct release *r, struct buf *out)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();

	release_write(r, json_build_root(b));
	assert_int_equal(json_build_canonical(b, out), 0);
}

static void test_what_is_written_reads_back(void **state)
{
	static const char *const texts[] = { good, minimal };

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		CLEANUP(release_done)
		struct release first = { 0 }, second = { 0 };
		CLEANUP(buf_done)
		struct buf a = BUF_INIT(RELEASE_MAX_BYTES), b = BUF_INIT(RELEASE_MAX_BYTES);
		CLEANUP(json_freep)
		struct json *doc = NULL;

		parse_good(texts[i], &first);
		write_canonical(&first, &a);
		doc = json_of(buf_str(&a));
		assert_int_equal(release_parse(doc, &second, NULL), 0);
		write_canonical(&second, &b);
		assert_string_equal(buf_str(&a), buf_str(&b));
		assert_string_equal(first.component, second.component);
		assert_int_equal(first.check_count, second.check_count);
		assert_int_equal(first.service_count, second.service_count);
		assert_memory_equal(first.tree_digest, second.tree_digest, SHA256_BYTES);
	}
}

static void test_agreement_with_the_path(void **state)
{
	CLEANUP(release_done)
	struct release r = { 0 };

	(void) state;
	parse_good(good, &r);
	assert_int_equal(release_agrees(&r, "web/1.1.0/release.json"), 0);
	assert_int_equal(release_agrees(&r, "web/1.1.1/release.json"), -ERR_DISAGREE);
	assert_int_equal(release_agrees(&r, "waf/1.1.0/release.json"), -ERR_DISAGREE);
	assert_int_equal(release_agrees(&r, "web/1.1.0/release.jsonx"), -ERR_DISAGREE);
	assert_int_equal(release_agrees(&r, "x/web/1.1.0/release.json"), -ERR_DISAGREE);
	assert_int_equal(release_agrees(&r, NULL), -ERR_DISAGREE);
	free(r.artifacts[1].path);
	r.artifacts[1].path = strdup("web/1.1.00/other");
	assert_int_equal(release_agrees(&r, "web/1.1.0/release.json"), -ERR_DISAGREE);
}

/* --- variables --- */

static void test_the_variables_a_release_uses(void **state)
{
	CLEANUP(release_done)
	struct release r = { 0 };
	CLEANUP(string_list_done)
	struct string_list names = { 0 };

	(void) state;
	parse_good(good, &r);
	assert_int_equal(release_variables(&r, &names), 0);
	assert_int_equal(names.count, 1); /* once, though used twice; ${root} is none */
	assert_string_equal(names.items[0], "port");
	free(r.checks[2].exec.argv.items[0]);
	r.checks[2].exec.argv.items[0] = strdup("${env.HOME}");
	assert_int_equal(release_variables(&r, &names), -ERR_FIELD_VALUE);
}

static int note_command(void *context, const struct release_command *command, const char *what)
{
	const char *file = release_command_file(command);

	assert_int_equal(buf_addf(context, "%s=%s ", what, file ? file : "-"), 0);
	return strcmp(what, "the check stop") == 0 ? -ERR_REFUSED : 0;
}

static void test_every_command_and_its_file(void **state)
{
	CLEANUP(release_done)
	struct release r = { 0 };
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(1000);
	static const struct {
		const char *program, *file;
	} cases[] = {
		{ "bin/a", "bin/a" },
		{ "./a", "./a" },
		{ "a", NULL },
		{ "/bin/a", NULL },
		{ "${root}/a/b", "a/b" },
		{ "${vars.where}/a", NULL },
		{ "${root}/${vars.a}/b", NULL },
	};

	(void) state;
	parse_good(good, &r);
	assert_int_equal(release_commands(&r, note_command, &text), 0);
	assert_string_equal(buf_str(&text), "the hook preflight=bin/pre the hook after_swap=bin/after "
					    "the service nginx=bin/start the service nginx=bin/reload "
					    "the check runs=bin/check ");
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char *argv[] = { (char *) (uintptr_t) cases[i].program };
		const struct release_command c = { .argv = { argv, 1 } };
		const char *file = release_command_file(&c);

		assert_string_equal(file ? file : "-", cases[i].file ? cases[i].file : "-");
	}
	/* Whoever has seen enough ends it. */
	buf_clear(&text);
	free(r.checks[2].name);
	r.checks[2].name = strdup("stop");
	assert_int_equal(release_commands(&r, note_command, &text), -ERR_REFUSED);
}

static void test_filling_in(void **state)
{
	static const struct {
		const char *text, *result;
		int error;
	} cases[] = {
		{ "plain", "plain", 0 },
		{ "", "", 0 },
		{ "${vars.port}", "8080", 0 },
		{ "a${vars.port}b${node.id}c${root}d", "a8080bn1c/tree d", 0 },
		{ "$HOME $5 $", "$HOME $5 $", 0 },
		{ "$${vars.port}", "$8080", 0 },
		{ "${vars.nested}", "${vars.port}", 0 }, /* filled in once, never again */
		{ "x${vars.none}", NULL, -ERR_FIELD_MISSING },
		{ "x${vars.}", NULL, -ERR_FIELD_VALUE },
		{ "x${}", NULL, -ERR_FIELD_VALUE },
		{ "x${vars.port", NULL, -ERR_FIELD_VALUE },
		{ "x${node.name}", NULL, -ERR_FIELD_VALUE },
		{ "x${rootx}", NULL, -ERR_FIELD_VALUE },
	};
	CLEANUP(labels_done)
	struct labels vars = { 0 };
	struct variables v = { .vars = &vars, .node_id = "n1", .root = "/tree " };

	(void) state;
	assert_int_equal(labels_set(&vars, "port", "8080"), 0);
	assert_int_equal(labels_set(&vars, "nested", "${vars.port}"), 0);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		CLEANUP(buf_done)
		struct buf out = BUF_INIT(100);

		assert_int_equal(buf_add_str(&out, "kept:"), 0);
		assert_int_equal(variables_expand(&v, cases[i].text, &out), cases[i].error);
		assert_int_equal(strncmp(buf_str(&out), "kept:", 5), 0);
		assert_string_equal(buf_str(&out) + 5, cases[i].result ? cases[i].result : "");
	}
	for (size_t i = 0; i < 2; i++) {
		CLEANUP(buf_done)
		struct buf small = BUF_INIT(3 + i);

		assert_int_equal(variables_expand(&v, "${vars.port}", &small), i ? 0 : -ERR_TOO_LARGE);
	}
}

static void test_names_of_kinds(void **state)
{
	(void) state;
	for (int k = 0; k < CHECK_KIND_COUNT; k++)
		assert_string_not_equal(check_kind_name((enum check_kind) k), "unknown");
	assert_string_equal(check_kind_name(CHECK_HTTP_GET), "httpGet");
	assert_string_equal(check_kind_name(CHECK_KIND_COUNT), "unknown");
}

/* --- policy --- */

static const char good_policy[] =
	"{'format':1,'owner':'team web','on_call':'+47 1','security_floor':'1.0.5','revoked':['1.1.1','1.2.0'],"
	"'approvals':[{'approver':'qa','kinds':['regular','downgrade'],'exempt_label':'ring=canary'},"
	"{'approver':'team'}],'lost_roots':['" A64 "'],'future':1}";

static const struct wrong policy_wrongs[] = {
	{ "'format':1", "'format':9", -ERR_AGENT_TOO_OLD, "format: is 9" },
	{ "'future':1", "'must':['future']", -ERR_AGENT_TOO_OLD, "must: names" },
	{ "'owner':'team web',", "", -ERR_FIELD_MISSING, "owner: is missing" },
	{ "'owner':'team web'", "'owner':'a\\nb'", -ERR_FIELD_VALUE, "owner: must be one line" },
	{ "'security_floor':'1.0.5'", "'security_floor':'1'", -ERR_FIELD_VALUE,
	  "security_floor: must be a version" },
	{ "'1.2.0'", "'*'", -ERR_FIELD_VALUE, "revoked[1]: must be a version" },
	{ "'approver':'qa'", "'approver':'Q A'", -ERR_FIELD_VALUE, "approvals[0].approver: must be an id" },
	{ "'approver':'team'", "'x':1", -ERR_FIELD_MISSING, "approvals[1].approver: is missing" },
	{ "'regular'", "'urgent'", -ERR_FIELD_VALUE,
	  "approvals[0].kinds[0]: must be regular, patch or downgrade" },
	{ "'ring=canary'", "'ring'", -ERR_FIELD_VALUE, "approvals[0].exempt_label: must be name=value" },
	{ "'ring=canary'", "'=x'", -ERR_FIELD_VALUE, "approvals[0].exempt_label: must be name=value" },
	{ "'lost_roots':['aa", "'lost_roots':['", -ERR_FIELD_VALUE, "lost_roots[0]: must be a SHA-256" },
};

static void test_policies(void **state)
{
	CLEANUP(policy_done)
	struct policy p = { 0 };
	CLEANUP(json_freep)
	struct json *doc = json_replaced(good_policy, "{", "{");

	(void) state;
	assert_int_equal(policy_parse(doc, &p, NULL), 0);
	assert_string_equal(p.owner, "team web");
	assert_string_equal(p.on_call, "+47 1");
	assert_int_equal(p.approval_count, 2);
	assert_string_equal(p.approvals[0].approver, "qa");
	assert_string_equal(p.approvals[0].exempt_label, "ring=canary");
	assert_int_equal(p.approvals[1].kinds.count, 0);
	assert_true(string_list_has(&p.lost_roots, A64));
	for (size_t i = 0; i < ARRAY_LEN(policy_wrongs); i++) {
		CLEANUP(policy_done)
		struct policy bad = { 0 };
		CLEANUP(json_freep)
		struct json *wrong = json_replaced(good_policy, policy_wrongs[i].from, policy_wrongs[i].to);
		char *error = NULL;

		expect_error(&policy_wrongs[i], policy_parse(wrong, &bad, &error), &error);
		free(error);
	}
}

static void test_a_policy_is_written_back(void **state)
{
	CLEANUP(policy_done)
	struct policy p = { 0 };
	CLEANUP(json_freep)
	struct json *doc = json_replaced(good_policy, ",'future':1", "");
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf out = BUF_INIT(POLICY_MAX_BYTES), again = BUF_INIT(POLICY_MAX_BYTES);
	CLEANUP(json_freep)
	struct json *written = NULL;
	CLEANUP(policy_done)
	struct policy second = { 0 };
	CLEANUP(json_build_freep)
	struct json_build *c = json_build_new();

	(void) state;
	assert_int_equal(policy_parse(doc, &p, NULL), 0);
	policy_write(&p, json_build_root(b));
	assert_int_equal(json_build_canonical(b, &out), 0);
	written = json_of(buf_str(&out));
	assert_int_equal(policy_parse(written, &second, NULL), 0);
	policy_write(&second, json_build_root(c));
	assert_int_equal(json_build_canonical(c, &again), 0);
	assert_string_equal(buf_str(&out), buf_str(&again));
}

static void test_floor_and_revocation(void **state)
{
	CLEANUP(policy_done)
	struct policy p = { 0 };
	CLEANUP(json_freep)
	struct json *doc = json_replaced(good_policy, "{", "{");

	(void) state;
	assert_int_equal(policy_parse(doc, &p, NULL), 0);
	assert_false(policy_permits(&p, "1.0.4"));
	assert_false(policy_permits(&p, "1.0.5-rc.1"));
	assert_true(policy_permits(&p, "1.0.5"));
	assert_false(policy_permits(&p, "1.1.1"));
	assert_true(policy_permits(&p, "1.1.2"));
	assert_false(policy_permits(&p, "1.2.0"));
	assert_true(policy_permits(&p, "1~0.0.1")); /* a new epoch is above */
	assert_true(policy_permits(NULL, "0.0.1"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_field_is_read),
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_every_wrong_field_is_named),
		cmocka_unit_test(test_limits_on_counts),
		cmocka_unit_test(test_limits_on_lengths),
		cmocka_unit_test(test_what_is_no_object),
		cmocka_unit_test(test_what_is_written_reads_back),
		cmocka_unit_test(test_agreement_with_the_path),
		cmocka_unit_test(test_the_variables_a_release_uses),
		cmocka_unit_test(test_every_command_and_its_file),
		cmocka_unit_test(test_filling_in),
		cmocka_unit_test(test_names_of_kinds),
		cmocka_unit_test(test_policies),
		cmocka_unit_test(test_a_policy_is_written_back),
		cmocka_unit_test(test_floor_and_revocation),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
