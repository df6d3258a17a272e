"use strict";
// The desk: what `selfright rollout`, `node` and `watch` say, on one page. Everything shown comes from nodes and people,
// so it enters the page as text only.

// A refresh takes at most a tenth of the time, here and at the controller, however large the fleet is.
const REFRESH_MS = 3000, REFRESH_REST = 10, NODES_SHOWN = 500, EVENTS_SHOWN = 300;
const page = document.getElementById("page"), notice = document.getElementById("notice");
let events = [], lastEvent = 0, auditFrom = 0, auditEntries = [], filter = "", shown = "", timer = 0, round = 0;

// The key comes once in the address, and stays with this tab.
function takeKey() {
	const m = /^#key=([0-9a-f]+)$/.exec(location.hash);
	if (m) {
		sessionStorage.setItem("key", m[1]);
		history.replaceState(null, "", location.pathname + "#rollouts");
	}
}

async function call(path, body) {
	const options = { headers: { Authorization: "Bearer " + (sessionStorage.getItem("key") || "") }, cache: "no-store" };
	if (body) {
		options.method = "POST";
		options.headers["Content-Type"] = "application/json";
		options.body = JSON.stringify(body);
	}
	const answer = await fetch("/api/" + path, options);
	const doc = await answer.json().catch(() => ({ error: "the answer is no JSON" }));
	if (!answer.ok)
		throw new Error(doc.error || "HTTP " + answer.status);
	return doc;
}

// --- making things ---

function make(tag, attributes, ...children) {
	const e = document.createElement(tag);
	for (const [name, value] of Object.entries(attributes || {}))
		if (name.startsWith("on"))
			e.addEventListener(name.slice(2), value);
		else if (value !== undefined && value !== null && value !== false)
			e.setAttribute(name, value === true ? "" : value);
	for (const c of children.flat())
		if (c !== null && c !== undefined && c !== false)
			e.append(c.nodeType ? c : String(c));
	return e;
}

const span = (cls, text) => make("span", { class: cls }, text);
const link = (to, text) => make("a", { href: "#" + to }, text);
const id = s => encodeURIComponent(s);

function table(heads, rows) {
	return make("div", { class: "scroll" }, make("table", {}, make("thead", {}, make("tr", {}, heads.map(h => make("th", { scope: "col" }, h)))),
		make("tbody", {}, rows.map(r => make("tr", {}, r.map(c => make("td", {}, c)))))));
}

function ago(stamp) {
	if (!stamp)
		return "never";
	const s = Math.max(0, Math.round((Date.now() - Date.parse(stamp)) / 1000));
	const text = s < 90 ? s + " s" : s < 5400 ? Math.round(s / 60) + " min" : s < 129600 ? Math.round(s / 3600) + " h" : Math.round(s / 86400) + " d";
	return make("time", { datetime: stamp, title: stamp }, text + " ago");
}

function when(stamp) {
	return stamp ? make("time", { datetime: stamp, title: stamp }, new Date(stamp).toLocaleString()) : "-";
}

// --- rollouts ---

const STATE_CLASS = { running: "way", paused: "wait", halted: "bad", done: "good", cancelled: "dim" };
const MEMBER_CLASS = { good: "good", "under-way": "way", failed: "bad", lost: "bad", "failed-node": "wait", blocked: "wait", unproven: "wait", quarantined: "bad" };
const VERDICT_CLASS = { pass: "good", fail: "bad", inconclusive: "wait" };
const ORDER = ["good", "unproven", "under-way", "failed", "lost", "failed-node", "blocked", "waiting", "excused", "quarantined"];

const WORST = ["failed", "lost", "failed-node", "blocked", "unproven", "under-way", "waiting", "quarantined", "skipped", "excused", "good"];

// What somebody has to look at is not behind ten thousand that are well.
function worstFirst(nodes) {
	const rank = n => (WORST.indexOf(n.state) + WORST.length) % WORST.length - (n.silent ? 0.5 : 0);
	return nodes.slice().sort((a, b) => rank(a) - rank(b)).slice(0, NODES_SHOWN);
}

function bar(nodes) {
	const count = {};
	for (const n of nodes)
		count[n.state] = (count[n.state] || 0) + 1;
	const names = Object.keys(count).sort((a, b) => ORDER.indexOf(a) - ORDER.indexOf(b));
	const text = names.map(k => count[k] + " " + k).join(", ");
	const b = make("div", { class: "bar", role: "img", "aria-label": text || "no node yet" });
	for (const k of names) {
		const i = make("i", { class: MEMBER_CLASS[k] || "" });
		i.style.width = 100 * count[k] / nodes.length + "%";
		b.append(i);
	}
	return [b, span("dim", text || "no node yet")];
}

function stageRow(s) {
	const silent = (s.nodes || []).filter(n => n.silent).length;
	const [b, text] = bar(s.nodes || []);
	return make("li", {}, span(s.open ? "" : "dim", [s.name, s.open ? "" : " (closed)"].join("")), b,
		make("span", {}, text, silent ? span("wait", " · " + silent + " silent") : null));
}

function ask(rollout, verb) {
	const reason = make("input", { type: "text", required: true, maxlength: 900, "aria-label": "Reason" });
	const form = make("form", { method: "dialog" }, make("h3", {}, verb + " " + rollout + "?"),
		make("p", { class: "dim" }, verb === "halt" ? "Nodes that have not swapped yet stay as they are; undo is a step of its own." : "It is published at once."),
		make("p", {}, reason), make("menu", {}, make("button", { value: "no", formnovalidate: true }, "Leave it"), make("button", { value: "yes", class: verb }, verb)));
	const box = make("dialog", {}, form);
	box.addEventListener("close", async () => {
		if (box.returnValue === "yes")
			try {
				await call("rollouts/" + id(rollout) + "/" + verb, { reason: reason.value });
				say("");
			} catch (e) {
				say(verb + ": " + e.message);
			}
		box.remove();
		refresh();
	});
	document.body.append(box);
	box.showModal();
	reason.focus();
}

function buttons(r) {
	const verbs = r.state === "running" ? ["pause", "halt"] : r.state === "paused" ? ["resume", "halt"] : [];
	return make("span", { class: "push" }, verbs.map(v => [make("button", { class: v, onclick: () => ask(r.id, v) }, v), " "]).flat());
}

function rolloutCard(r) {
	const missing = (r.approvals || []).filter(a => !a.met);
	return make("section", { class: "card", id: "rollout-" + r.id },
		make("div", { class: "head" }, make("h3", {}, link("rollout/" + id(r.id), r.id)), span("", r.component + " " + r.version),
			span("badge " + (STATE_CLASS[r.state] || ""), r.state), span("dim", r.kind), buttons(r)),
		make("p", { class: "why" }, r.why || r.reason || ""),
		make("ul", { class: "stages" }, (r.stages || []).map(stageRow)),
		missing.length ? make("p", { class: "dim" }, "Approvals missing: ", missing.map(a => a.approver + " for " + a.stage).join(", "), ". Where the key is: ",
			make("code", {}, "selfright approve " + r.id + " --stage " + missing[0].stage + " --key FILE")) : null);
}

async function rolloutsPage() {
	const list = (await call("rollouts")).rollouts || [];
	const alive = list.filter(r => r.state === "running" || r.state === "paused" || r.state === "halted").reverse();
	const ended = list.filter(r => !alive.includes(r)).reverse();
	const full = await Promise.all(alive.slice(0, 20).map(r => call("rollouts/" + id(r.id))));
	const freezes = (await call("freeze")).freezes || [];
	return [
		freezes.map(f => make("section", { class: "card" }, span("wait", "Freeze: "), f.reason, " ", span("dim", f.until ? "until " + f.until : "until lifted"))),
		make("h2", {}, "Under way"), full.length ? full.map(rolloutCard) : make("p", { class: "dim" }, "No rollout is under way."),
		ended.length ? make("h2", {}, "Ended") : null,
		ended.length ? table(["rollout", "release", "state", "when", "why"], ended.slice(0, 50).map(r => [link("rollout/" + id(r.id), r.id), r.component + " " + r.version,
			span(STATE_CLASS[r.state] || "", r.state), when(r.state_at), r.why || r.reason || ""])) : null];
}

async function rolloutPage(name) {
	const [r, x] = await Promise.all([call("rollouts/" + id(name)), call("rollouts/" + id(name) + "/explain").catch(() => null)]);
	const out = [rolloutCard(r)];
	if (x && x.why && x.why !== r.why)
		out.push(make("p", {}, x.why));
	if (x && (x.gates || []).length)
		out.push(make("h2", {}, "Gates of ", x.stage || "this stage"), table(["gate", "kind", "says", "because"], x.gates.map(g => [g.name, g.kind,
			span(VERDICT_CLASS[g.verdict] || "", g.verdict + (g.due ? " (overdue)" : "")), g.text || ""])));
	for (const s of r.stages || [])
		out.push(make("h2", {}, s.name, " ", span("dim", s.open ? "open since " + (s.opened || "?") : "closed")),
			(s.nodes || []).length > NODES_SHOWN ? make("p", { class: "dim" }, NODES_SHOWN + " of " + s.nodes.length + " nodes shown, the worst first") : null,
			table(["node", "state", "runs", "result", "detail", "heard"], worstFirst(s.nodes || []).map(n => [link("node/" + id(n.node), n.node),
				make("span", {}, span(MEMBER_CLASS[n.state] || "", n.state), n.under_way ? " (" + n.under_way + ")" : "", n.silent ? span("wait", " silent") : null),
				n.version || "absent", n.result || "-", n.detail || "", ago(n.reported)])));
	if (r.approvals && r.approvals.length)
		out.push(make("h2", {}, "Approvals"), table(["stage", "component", "approver", "signatures", "until"], r.approvals.map(a => [a.stage, a.component, a.approver,
			span(a.met ? "good" : "wait", a.valid + " of " + a.threshold), a.expires || "-"])));
	if (x && (x.answers || []).length)
		out.push(make("h2", {}, "What gates said"), table(["when", "stage", "gate", "says", "because"], x.answers.slice(-50).reverse().map(a => [when(a.at), a.stage || "", a.gate,
			span(VERDICT_CLASS[a.verdict] || "", a.verdict), a.text || ""])));
	out.push(make("h2", {}, "Plan"), make("pre", {}, JSON.stringify(r.plan, null, 2)));
	return out;
}

// --- nodes ---

function linkState(n) {
	if (n.quarantined)
		return span("bad", "quarantined");
	if (n.two_machines)
		return span("bad", "two machines");
	if (n.held_back)
		return span("wait", "held back");
	return n.online ? span("good", "online") : span("wait", n.presence_at ? "offline" : n.reported ? "unknown" : "not joined");
}

const labelsOf = n => Object.entries(n.labels || {}).map(([k, v]) => k + "=" + v).join(" ");
const componentsOf = n => (n.components || []).map(c => c.component + " " + (c.version || "absent")).join(", ");
const ordersOf = n => (n.orders || []).map(o => o.kind + (o.component ? " of " + o.component : "") + (o.to ? " to " + o.to : "")).join(", ");

async function nodesPage() {
	const list = (await call("nodes")).nodes || [];
	const field = make("input", { type: "search", value: filter, placeholder: "name, label, version, order …", "aria-label": "Filter nodes", id: "filter" });
	const rows = make("div"), count = make("p", { class: "dim", id: "count" });
	const draw = () => {
		const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
		const found = list.filter(n => {
			const text = [n.node, labelsOf(n), componentsOf(n), ordersOf(n), linkState(n).textContent].join(" ").toLowerCase();
			return words.every(w => text.includes(w));
		});
		count.textContent = found.length + " of " + list.length + " nodes" + (found.length > NODES_SHOWN ? ", the first " + NODES_SHOWN + " shown" : "");
		rows.replaceChildren(table(["node", "link", "heard", "components", "labels", "orders"], found.slice(0, NODES_SHOWN).map(n => [link("node/" + id(n.node), n.node), linkState(n),
			ago(n.reported), componentsOf(n), span("dim", labelsOf(n)), span("wait", ordersOf(n))])));
	};
	field.addEventListener("input", () => { filter = field.value; draw(); });
	draw();
	return [make("p", {}, field), count, rows];
}

async function nodePage(name) {
	const n = await call("nodes/" + id(name));
	const out = [make("section", { class: "card" }, make("div", { class: "head" }, make("h3", {}, n.node), linkState(n), span("dim", labelsOf(n)), span("dim", "agent " + (n.agent || "?"))),
		make("p", { class: "why" }, "heard ", ago(n.reported)), n.quarantine_reason ? make("p", { class: "bad" }, n.quarantine_reason) : null,
		n.two_machines ? make("p", { class: "bad" }, "two machines take turns as this node, last ", ago(n.two_machines.last), ": was its disk copied after it had joined?") : null,
		n.under_way ? make("p", { class: "way" }, n.under_way.component + " → " + (n.under_way.to || "absent") + ": " + n.under_way.state) : null)];
	out.push(make("h2", {}, "Components"), table(["component", "runs", "before", "denies", "why"], (n.components || []).map(c => [c.component, c.version || "absent", c.previous || "-",
		Array.isArray(c.denied) ? c.denied.map(d => d.version + " (" + d.cause + ")").join(", ") : "-", c.why_detail || c.why || ""])));
	if ((n.orders || []).length) {
		const ends = Object.fromEntries((n.order_results || []).map(o => [o.id, o.name + ": " + (o.detail || "")]));
		out.push(make("h2", {}, "Orders"), table(["order", "what", "reason", "by", "the node says"], n.orders.map(o => [o.id, o.kind + " " + (o.component || "") + (o.to ? " to " + o.to : "") + (o.until ? " until " + o.until : ""),
			o.reason || "", o.by || "", ends[o.id] || "nothing yet"])));
	}
	if ((n.checks || []).length)
		out.push(make("h2", {}, "Checks"), table(["component", "check", "kind", "state"], n.checks.map(c => [c.component, c.name, c.kind, span(c.state === "passing" ? "good" : c.state === "failing" ? "bad" : "wait", c.state)])));
	const results = (n.results || []).slice(-20).reverse();
	if (results.length)
		out.push(make("h2", {}, "Newest results"), table(["when", "component", "from", "to", "result", "detail"], results.map(r => [when(r.at), r.component, r.from || "-", r.to || "-",
			span(r.name === "good" ? "good" : r.class === "none" ? "" : "bad", r.name), make("span", {}, r.detail || "", r.log_tail ? make("details", {}, make("summary", {}, "log"), make("pre", {}, r.log_tail)) : null)])));
	out.push(make("h2", {}, "By hand"), make("pre", {}, "selfright node why " + n.node + "\nselfright node rollback " + n.node + " COMPONENT --to VERSION --reason TEXT\nselfright node hold " + n.node + " --for 2d --reason TEXT"));
	return out;
}

// --- timeline and audit ---

async function readEvents() {
	for (let i = 0; i < 20; i++) {
		const doc = await call("events?after=" + lastEvent);
		const more = doc.events || [];
		if (!more.length)
			return;
		lastEvent = more[more.length - 1].id;
		events = events.concat(more).slice(-EVENTS_SHOWN);
	}
}

async function timelinePage() {
	await readEvents();
	return [make("h2", {}, "Timeline"), table(["when", "node", "what"], events.slice().reverse().map(e => [when(e.at), e.node ? link("node/" + id(e.node), e.node) : "", (e.component ? e.component + ": " : "") + e.text]))];
}

async function auditPage() {
	const doc = await call("audit?after=" + auditFrom);
	for (const e of doc.entries || []) {
		auditFrom = e.id;
		auditEntries.push(e);
	}
	auditEntries = auditEntries.slice(-EVENTS_SHOWN);
	return [make("h2", {}, "Audit log"), make("p", { class: doc.intact ? "good" : "bad" }, doc.intact ? "The chain of hashes holds over " + doc.checked + " entries." : "The chain of hashes is broken: somebody changed the log."),
		table(["when", "who", "action", "detail"], auditEntries.slice().reverse().map(e => [when(e.at), e.by || "", e.action, e.detail || ""]))];
}

// --- the frame ---

function say(text) {
	notice.textContent = text;
	notice.hidden = !text;
}

async function readStatus() {
	const s = await call("status");
	document.getElementById("fleet").textContent = s.fleet;
	document.title = "Selfright " + s.fleet;
	const health = document.getElementById("health");
	const wrong = [s.broker_connected ? "" : "the broker is away", s.signer_connected ? "" : "the signer is away", s.publish_due ? "a change waits to be published" : "",
		s.quarantined ? s.quarantined + " in quarantine" : ""].filter(Boolean);
	health.replaceChildren(s.online + " of " + s.nodes + " nodes online, " + s.rollouts_running + " rollouts running", wrong.length ? span("bad", " · " + wrong.join(", ")) : "");
}

const pages = { rollouts: rolloutsPage, nodes: nodesPage, timeline: timelinePage, audit: auditPage, rollout: rolloutPage, node: nodePage };

async function refresh() {
	const mine = ++round, begun = performance.now(), [kind, name] = location.hash.slice(1).split("/");
	const maker = pages[kind] || rolloutsPage;
	clearTimeout(timer);
	try {
		await readStatus();
		const parts = await maker(name === undefined ? undefined : decodeURIComponent(name));
		if (mine !== round)
			return;
		const moved = shown !== location.hash;
		const field = document.activeElement && document.activeElement.id === "filter" ? document.activeElement.selectionStart : -1;
		page.replaceChildren(...parts.flat().filter(p => p !== null && p !== undefined && p !== false));
		if (field >= 0 && document.getElementById("filter")) {
			document.getElementById("filter").focus();
			document.getElementById("filter").setSelectionRange(field, field);
		}
		if (moved && shown)
			page.focus();
		shown = location.hash;
		for (const a of document.querySelectorAll("nav a"))
			if (a.getAttribute("href").startsWith("#" + (kind || "rollouts").replace(/s$/, "")))
				a.setAttribute("aria-current", "page");
			else
				a.removeAttribute("aria-current");
		say("");
	} catch (e) {
		if (mine === round)
			say(e.message);
	}
	if (mine === round && !document.hidden)
		timer = setTimeout(refresh, Math.max(document.querySelector("dialog[open]") ? REFRESH_MS * 10 : REFRESH_MS, REFRESH_REST * (performance.now() - begun)));
}

takeKey();
addEventListener("hashchange", () => { takeKey(); refresh(); });
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
refresh();
