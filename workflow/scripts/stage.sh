# Runs one stage of a row, and leaves its document: stage.sh [--small=ENVIRONMENT] OUTPUT LOG DOCUMENT... -- COMMAND...
#
# A stage of a small checkpoint takes less time than what it imports: it is given to the worker of this run, if there is
# one. Its log and exit code are the same; what it took is in the file LOG.cost, because nobody sees it below this process.
#
# A stage that convkit refuses (exit codes 2, 3, 70) leaves the error as its document, and so do the stages after it. Their
# jobs succeed, so that the other rows go on under any profile; the campaign's verdict fails. What is killed or
# interrupted leaves no document: Snakemake runs it again.
set -u
small=
if [[ $1 == --small=* ]]; then
    small=${1#--small=}
    shift
fi
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
rm -f -- "$log.cost"
# Threads that have nothing to do sleep: by default they keep a core busy that another row could use. Freed memory is
# kept for what comes next: by default the system takes a block of more than 128 KiB back, and clears the next one.
if [ "$small" ]; then
    export OMP_WAIT_POLICY="${OMP_WAIT_POLICY-passive}"
    export MALLOC_MMAP_THRESHOLD_="${MALLOC_MMAP_THRESHOLD_-33554432}"
    export MALLOC_TRIM_THRESHOLD_="${MALLOC_TRIM_THRESHOLD_-134217728}"
fi
if [ "$small" ] && [ -S "${CONVKIT_WORKER-}/socket" ]; then
    set -- "$CONVKIT_WORKER/python" -IS "$CONVKIT_WORKER/call.py" "$CONVKIT_WORKER" "$log.cost" "$small" "$@"
fi
"$@" > "$output" 2> "$log"
code=$?
case $code in
    2 | 3 | 70)
        cat -- "$log" >&2
        code=0
        ;;
esac
exit "$code"
