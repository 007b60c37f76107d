# What a RayJob runs: bash entrypoint.sh COMMAND …
#
# KubeRay answers whatever ends badly with a new cluster, on which the same command goes on where the last one stopped.
# That helps where the head was lost, and this script with it; it helps nobody where the input is wrong (exit code 2) or
# where shards failed that the summary lists (3). So the script ends well whenever it ends by itself, and its last line
# says how the command did. What else went wrong is tried again here, where the workers are: KIAGO_TRIES times in a row,
# KIAGO_PAUSE_S seconds apart; a try that ran for an hour counts as a new beginning.
set -u
tries=${KIAGO_TRIES:-5}
pause_s=${KIAGO_PAUSE_S:-60}

recorded() {
    echo "entrypoint: exit code $1 of the command: $2. No new cluster is started for it."
    exit 0
}

failed=0
while true; do
    SECONDS=0
    "$@"
    code=$?
    case $code in
        0) recorded 0 "it is done" ;;
        2) recorded 2 "the input is wrong, as said above; correct it, delete the RayJob and apply it again" ;;
        3) recorded 3 "it is finished, and what failed is listed above; the same command tries that again" ;;
    esac
    ((SECONDS < 3600)) || failed=0
    ((++failed < tries)) || recorded "$code" "it ended so $tries times in a row; the log says why"
    echo "entrypoint: exit code $code of the command; try $((failed + 1)) of $tries follows in $pause_s s."
    sleep "$pause_s"
done
