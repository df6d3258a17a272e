#!/usr/bin/env bash
# Every page is clean mdoc(7), and names every command, subcommand and option that the programs print in their --help.
set -u
bin=${1:?build folder}/bin
man=${SELFRIGHT_SOURCE:?}/packaging/man
status=0

complain() {
	echo "$*"
	status=1
}

# What a page says, as a reader sees it: one line, without the fonts.
page_text() {
	mandoc -T ascii "$man/$1" 2>/dev/null | sed 's/.\x08//g' | tr -s ' \t\n' ' '
}

# check WORDS PAGE: each --option of what `WORDS --help` prints is on the page.
check_options() {
	local words=$1 page=$2 help option
	# shellcheck disable=SC2086 # words are words
	help=$("$bin"/$words --help 2>&1) || complain "$words --help fails"
	for option in $(grep -oE '(^|[^a-z-])--[a-z][a-z0-9-]+' <<<"$help" | grep -oE -- '--.*' | sort -u); do
		grep -qE -- "(^|[^a-z-])$option([^a-z0-9-]|\$)" <<<"${texts[$page]}" ||
			complain "$page does not name $option of \`$words\`"
	done
}

# An entry begins a line of the rendered page: "     repo init DIR --fleet NAME".
check_entry() {
	local entry=$1 page=$2
	mandoc -T ascii "$man/$page" 2>/dev/null | sed 's/.\x08//g' | grep -qE -- "^ +$entry( |\$)" ||
		complain "$page has no entry for \`$entry\`"
}

# The first words of the indented lines of `--help`, up to the line that ends the list.
commands_of() {
	sed -nE 's/^  ([a-z][a-z-]*) +[a-zA-Z].*/\1/p'
}

declare -A texts
for page in selfright.1 selfright-agent.8 selfright-link.8 selfright-log.8 selfright-stage.8 selfright-probe.8 selfright-recover.8 selfright-signer.8 selfright-gate.8 selfright-notify.8 \
	selfright-agent.yaml.5 selfright-component.yaml.5 selfright-plan.yaml.5 selfright-preflight.yaml.5 selfright-notify.yaml.5; do
	if [ ! -s "$man/$page" ]; then
		complain "$page is missing"
		continue
	fi
	texts[$page]=$(page_text $page)
	words=$(mandoc -T lint -W warning "$man/$page" 2>/dev/null)
	[ -z "$words" ] || complain "$words"
	for section in EXAMPLES 'EXIT STATUS' FILES 'SEE ALSO'; do
		grep -qx ".Sh $section" "$man/$page" || complain "$page has no section $section"
	done
done

for program in selfright selfright-agent selfright-link selfright-log selfright-stage selfright-probe selfright-recover selfright-signer selfright-gate selfright-notify; do
	[ -x "$bin/$program" ] || { echo "no $bin/$program; was the build complete?"; exit 1; }
done

commands=$("$bin/selfright" --help | commands_of)
[ "$(wc -w <<<"$commands")" -ge 10 ] || complain "selfright --help lists too few commands to be read right"
for command in $commands; do
	subcommands=$("$bin/selfright" "$command" --help | sed -n '/^Commands:/,$p' | commands_of)
	if [ -z "$subcommands" ]; then
		check_entry "$command" selfright.1
		check_options "selfright $command" selfright.1
	fi
	for sub in $subcommands; do
		# `freeze add` may be written without its word.
		check_entry "$command \[?$sub\]?" selfright.1
		check_options "selfright $command $sub" selfright.1
	done
done

commands=$("$bin/selfright-agent" --help | commands_of)
[ "$(wc -w <<<"$commands")" -ge 5 ] || complain "selfright-agent --help lists too few commands to be read right"
for command in $commands; do
	check_entry "$command" selfright-agent.8
	check_options "selfright-agent $command" selfright-agent.8
done

# Dashboards are built on the names of the metrics.
for name in $(grep -oE 'selfright_[a-z_]+' "$SELFRIGHT_SOURCE/agent/metrics.c" | sort -u); do
	grep -qE "(^|[^a-z_])$name([^a-z_]|\$)" <<<"${texts[selfright-agent.8]}" || complain "selfright-agent.8 does not name $name"
done

for program in selfright selfright-agent selfright-link selfright-log selfright-stage selfright-probe selfright-recover selfright-signer selfright-gate selfright-notify; do
	page=$program.8
	[ $program = selfright ] && page=selfright.1
	check_options $program $page
done
exit $status
