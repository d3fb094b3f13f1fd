# Reads numbers from standard input, factors them, keeps each in a file and
# prints what the files hold: a program that needs input, files and a processor.
set -eu

factors() {
	number=$1 divisor=2 found=
	while [ $((divisor * divisor)) -le "$number" ]; do
		while [ $((number % divisor)) -eq 0 ]; do
			found="$found${found:+ x }$divisor"
			number=$((number / divisor))
		done
		divisor=$((divisor + 1))
	done
	[ "$number" -le 1 ] || found="$found${found:+ x }$number"
	echo "$found"
}

mkdir /tmp/factors
while read -r number; do
	factors "$number" >"/tmp/factors/$number.txt"
done
for file in /tmp/factors/*.txt; do
	name=${file##*/}
	printf '%14s = %s\n' "${name%.txt}" "$(cat "$file")"
done
echo "sh, process $$ as user $(id -u) on $(hostname 2>/dev/null || cat /proc/sys/kernel/hostname)"
