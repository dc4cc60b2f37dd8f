# Runs one stage of a row, and leaves its document: stage.sh OUTPUT LOG DOCUMENT... -- COMMAND...
#
# A stage that convkit refuses (exit codes 2, 3, 70) leaves the error as its document, and so do the stages after it. Their
# jobs succeed, so that the other rows go on under any profile; the campaign's verdict fails. What is killed or
# interrupted leaves no document: Snakemake runs it again.
set -u
output=$1 log=$2
shift 2
while [ "$1" != -- ]; do
    IFS= read -r -d '' -n 60 beginning < "$1" || true
    if [[ $beginning == *'"convkit.error/1"'* ]]; then
        printf 'not begun: %s says why\n' "$1" > "$log"
        exec cp -- "$1" "$output"
    fi
    shift
done
shift
"$@" > "$output" 2> "$log"
code=$?
case $code in
    2 | 3 | 70)
        cat -- "$log" >&2
        code=0
        ;;
esac
exit "$code"
