# An environment of other versions, and a campaign in it.
#
#   column.sh make ENV CONSTRAINTS VERSIONS     make it, and list what differs from the one that runs this
#   column.sh run ENV CONFIG SNAKEFILE CORES
set -euo pipefail
what=$1 env=$2
shift 2
python=$env/bin/python
case $what in
    make)
        # In the way of one that was killed: it is made anew.
        rm -rf -- "$env"
        base=$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
        python -m venv --without-pip "$env"
        site=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
        # After its own packages come those of the environment that runs this, with what these install by .pth files.
        printf 'import site; site.addsitedir(%s)\n' "$(python -c 'import sys; print(repr(sys.argv[1]))' "$base")" > "$site/base.pth"
        "$python" -m pip install --disable-pip-version-check --requirement "$1"
        printf '#!/bin/sh\nexec "$(dirname "$0")/python" -m convkit "$@"\n' > "$env/bin/convkit"
        chmod +x "$env/bin/convkit"
        # nothing, where the environment that runs this has these versions
        find "$site" -maxdepth 1 -name '*.dist-info' -printf '%f\n' | sort > "$2"
        ;;
    run)
        PATH=$(cd "$env/bin" && pwd):$PATH
        export PATH
        # the campaign around this one holds the lock of the folder
        exec "$python" -m snakemake --nolock --snakefile "$2" --configfile "$1" --cores "$3" -- reported
        ;;
esac
