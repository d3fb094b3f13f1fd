#!/usr/bin/env bash
# Runs the same program on every runtime that this machine has, and prints what
# is the same and what differs.
#
#   demos/runtimes/compare.sh [COMMAND…]
#
# Without a command it runs probe.sh, which tells what a program sees. A line
# `name: value` of the output is compared by its name, any other by its number.
#
# FAAS        the program; bin/faas when it was built, else faas
# FAAS_IMAGE  the image; host
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

faas=${FAAS-}
if [ -z "$faas" ]; then
	faas=$here/../../bin/faas
	[ -x "$faas" ] || faas=faas
fi
if [ $# = 0 ]; then
	set -- sh -c "$(cat "$here/probe.sh")"
fi

out=$(mktemp -d "${TMPDIR:-/tmp}/faas-compare.XXXXXX")
trap 'rm -rf "$out"' EXIT

"$faas" doctor >"$out/doctor"
runtimes=$(sed -n 's/^yes  \([a-z]*\).*/\1/p' "$out/doctor")
if [ -z "$runtimes" ]; then
	echo 'no runtime is available here:' >&2
	cat "$out/doctor" >&2
	exit 1
fi

now() { echo $(($(date +%s%N) / 1000000)); }

failed=0
printf '%-12s %6s %10s\n' runtime exit 'whole run'
for runtime in $runtimes; do
	code=0
	begun=$(now)
	printf hello | "$faas" run --runtime "$runtime" --image "${FAAS_IMAGE:-host}" --env GREETING=welcome -- "$@" \
		>"$out/$runtime.out" 2>"$out/$runtime.err" || code=$?
	printf '%-12s %6s %7s ms\n' "$runtime" "$code" $(($(now) - begun))
	if [ "$code" = 125 ]; then
		sed 's/^/    /' "$out/$runtime.err"
		failed=1
	fi
done

# compare prints the lines whose values are all the same, or all that are not.
compare() { # same|differs
	local files=()
	for runtime in $runtimes; do files+=("$out/$runtime.out"); done
	awk -v wanted="$1" '
		FNR == 1 { file++; name[file] = FILENAME; sub(/.*\//, "", name[file]); sub(/\.out$/, "", name[file]) }
		{
			key = "line " FNR; value = $0
			if (i = index($0, ": ")) { key = substr($0, 1, i - 1); value = substr($0, i + 2) }
			if (!(key in seen)) { seen[key] = 1; order[++keys] = key }
			values[key, file] = value; has[key, file] = 1
		}
		END {
			for (k = 1; k <= keys; k++) {
				key = order[k]; same = 1
				for (f = 1; f <= file; f++) if (!((key, f) in has) || values[key, f] != values[key, 1]) same = 0
				if (same && wanted == "same") printf "  %-20s %s\n", key, values[key, 1]
				if (!same && wanted == "differs") {
					printf "  %s\n", key
					for (f = 1; f <= file; f++) printf "    %-12s %s\n", name[f], ((key, f) in has) ? values[key, f] : "(nothing)"
				}
			}
		}' "${files[@]}"
}

printf '\nthe same everywhere:\n'
compare same
printf '\ndifferent:\n'
compare differs
exit "$failed"
