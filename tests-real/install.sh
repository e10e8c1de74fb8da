#!/usr/bin/env bash
# Installs the real clients, each pinned where its registry allows it: Debian's mosquitto-clients, the Python clients
# into .venv, MQTT.js into node/node_modules. Does nothing that has been done already.
#
# --with-mosquitto also installs Debian's broker, for `run --broker mosquitto`.
set -euo pipefail
cd "$(dirname "$0")"

packages=(mosquitto-clients)
[ "${1:-}" = --with-mosquitto ] && packages+=(mosquitto)
command -v node >/dev/null || packages+=(nodejs)
command -v npm >/dev/null || packages+=(npm)
python3 -c 'import venv, ensurepip' 2>/dev/null || packages+=(python3-venv)
missing=()
for package in "${packages[@]}"; do
    dpkg-query --show --showformat='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
    if [ "$(id -u)" -ne 0 ]; then
        echo "error: run as root, or first: apt-get install ${missing[*]}" >&2
        exit 1
    fi
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
fi

if ! cmp -s requirements.txt .venv/installed.txt; then
    rm -rf .venv
    python3 -m venv .venv
    .venv/bin/python -m pip install --quiet --requirement requirements.txt
    cp requirements.txt .venv/installed.txt
fi

if ! cmp -s node/package-lock.json node/node_modules/installed.json; then
    npm --prefix node ci --no-audit --no-fund --loglevel=error
    cp node/package-lock.json node/node_modules/installed.json
fi
