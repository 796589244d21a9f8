# Shared by the scripts: finds the project, makes .venv from the lock files, installs system packages.
# POSIX sh; needs python3 >= 3.11. Never assumes make or the venv module.
set -eu
ROOT=${POSTHOUSE_ROOT:-$(cd "$(dirname "$0")/.." && pwd)}
VENV="$ROOT/.venv"
export PIP_DISABLE_PIP_VERSION_CHECK=1
# dpkg and useradd need these, and a shell started without a login may lack them.
export PATH="$PATH:/usr/sbin:/sbin"

say() { printf '%s\n' "$*" >&2; }

# need_packages PACKAGE...: installs the Debian packages that are missing; without root it says how.
need_packages() {
    missing=""
    for package in "$@"; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q "install ok installed" || missing="$missing $package"
    done
    [ -z "$missing" ] && return 0
    if [ "$(id -u)" != 0 ]; then
        say "These Debian packages are missing:$missing"
        say "Install them with: sudo apt-get install -y --no-install-recommends$missing"
        return 1
    fi
    say "installing$missing"
    # No service may start by itself on the machine that tests us.
    policy=/usr/sbin/policy-rc.d
    made_policy=""
    if [ ! -e "$policy" ]; then printf '#!/bin/sh\nexit 101\n' > "$policy"; chmod 755 "$policy"; made_policy=1; fi
    apt_log=$(mktemp)
    if ! { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing; } > "$apt_log" 2>&1; then
        tail -20 "$apt_log" >&2
        [ -z "$made_policy" ] || rm -f "$policy"
        return 1
    fi
    rm -f "$apt_log"
    [ -z "$made_policy" ] || rm -f "$policy"
}

# choose_python: sets PYTHON to $POSTHOUSE_PYTHON, else to the system's python3, else to that of PATH; the first that is
# 3.11 or later. The system's before that of PATH: Debian builds it with profile-guided optimisation, which a version
# manager does not do by itself: with one of those posthouse took an eighth to a quarter more CPU per mail.
choose_python() {
    for candidate in ${POSTHOUSE_PYTHON:-/usr/bin/python3 python3}; do
        "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue
        PYTHON=$candidate
        "$candidate" -c 'import venv, ensurepip' 2>/dev/null && return 0
        # Without the venv module and without root to install it, the next one may still do.
        if [ "$(id -u)" = 0 ]; then need_packages python3-venv && return 0; fi
    done
    if [ -z "${PYTHON:-}" ]; then
        say "${POSTHOUSE_PYTHON:-python3}: no Python 3.11 or later"
    else
        need_packages python3-venv
    fi
    return 1
}

# setup LOCK: brings .venv to what requirements/LOCK.lock says; a stamp makes a second call free.
setup() {
    lock="$ROOT/requirements/$1.lock"
    stamp="$VENV/.posthouse-$1"
    want=$(cat "$lock" "$ROOT/pyproject.toml" | sha256sum | cut -d' ' -f1)
    if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$want" ]; then return 0; fi
    if [ ! -x "$VENV/bin/pip" ]; then
        choose_python || return 1
        say "making $VENV with $PYTHON"
        "$PYTHON" -m venv --clear "$VENV"
    fi
    say "installing Python packages ($1.lock)"
    "$VENV/bin/pip" install -q --require-hashes -r "$lock"
    # The project itself by a path entry: no build step, edits are in force at once.
    site=$("$VENV/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    printf '%s\n' "$ROOT/src" > "$site/posthouse.pth"
    printf '#!/bin/sh\nexec "%s" -m posthouse "$@"\n' "$VENV/bin/python" > "$VENV/bin/posthouse"
    chmod 755 "$VENV/bin/posthouse"
    printf '%s' "$want" > "$stamp"
}

# need_exim: Debian's Exim, unpacked into .work/exim, since its package and Postfix's exclude one another.
need_exim() {
    need_packages libdb5.3 libgnutls-dane0 libidn12 libnsl2 libpcre2-8-0 || return 1
    if ! getent passwd Debian-exim >/dev/null; then
        if [ "$(id -u)" != 0 ]; then
            say "The user Debian-exim is missing; make it with: sudo useradd -r -U -M -d /nonexistent -s /usr/sbin/nologin Debian-exim"
            return 1
        fi
        useradd -r -U -M -d /nonexistent -s /usr/sbin/nologin Debian-exim
    fi
    [ -x "$ROOT/.work/exim/usr/sbin/exim4" ] && return 0
    say "unpacking Exim into .work/exim"
    fetched=$(mktemp -d)
    chmod 777 "$fetched"
    # The lists may be absent on a fresh machine, and only root may fetch them.
    apt-cache show exim4-daemon-light >/dev/null 2>&1 || [ "$(id -u)" != 0 ] || apt-get update -q >/dev/null
    (cd "$fetched" && apt-get download -q exim4-daemon-light >/dev/null) || { rm -rf "$fetched"; return 1; }
    rm -rf "$ROOT/.work/exim"
    mkdir -p "$ROOT/.work/exim"
    dpkg -x "$fetched"/*.deb "$ROOT/.work/exim"
    rm -rf "$fetched"
}

# need_test_programs: every program outside Python that a test starts.
need_test_programs() {
    need_packages curl postfix swaks postgresql gcc libc6-dev || return 1
    need_exim
}
