# Lanes: commands that run side by side, because tests wait for others' processes rather than for a core. To be sourced.
# What a lane says is shown when it has ended; a failure in one does not end another.
# shellcheck shell=bash

# What tests are chosen by, and what is built goes by it: the same everywhere, so that it is built once.
selection=(--workspace --exclude dovecast-benches --no-fail-fast)

logs=$(mktemp --directory)
running=()
declare -A lane_names
lanes_failed=0
# What is left of them when this ends before its time: each lane is a group of processes. A lane that is just made has our traps still.
trap '[ "$BASHPID" != $$ ] || { kill -- "${running[@]/#/-}" 2>/dev/null; rm -r "$logs"; }' EXIT
trap 'exit 130' INT TERM

# lane NAME COMMAND...: runs it beside the others.
lane() {
	local name=$1
	shift
	set -m
	"$@" >"$logs/$name" 2>&1 </dev/null &
	set +m
	running+=($!)
	lane_names[$!]=$name
}

# Waits for all lanes, and shows what they have said.
lanes_end() {
	local pid
	for pid in "${running[@]}"; do
		wait "$pid" || lanes_failed=1
		cat "$logs/${lane_names[$pid]}"
	done
	running=()
}

# Once more at the end, for who sees no more than that: what has failed, with the beginning of its reason. Returns whether nothing has.
lanes_told() {
	[ $lanes_failed -ne 0 ] || return 0
	cat "$logs"/* | awk '
		/^---- / { left = 20 }
		/^(failures|test result):/ { left = 0 }
		left-- > 0 || /^error: test failed/ { print substr($0, 1, 300) }
	'
	return 1
}

# The names of all tests but these.
tests_but() {
	local name names
	names=$(cargo metadata --no-deps --format-version 1 | grep -o '"kind":\["test"\],"crate_types":\["bin"\],"name":"[^"]*"' | cut -d'"' -f12 | sort -u)
	[ -n "$names" ] || { echo "$0: cargo metadata names no test" >&2; return 2; }
	for name in $names; do
		[[ " $* " == *" $name "* ]] || echo "$name"
	done
}
