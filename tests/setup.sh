#!/usr/bin/env bash
# Install the real servers that the suite runs against. Debian packages, as root or by sudo; anywhere else, and without
# that right, it lists what is missing and fails: the suite has no skips.
set -euo pipefail

have_postgres() { compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || command -v initdb >/dev/null; }
have_cjk_font() { command -v fc-list >/dev/null && [ -n "$(fc-list :lang=zh-cn family)" ]; }

missing=()
[ -x /usr/sbin/slapd ] || command -v slapd >/dev/null || missing+=(slapd)
command -v ldapmodify >/dev/null || missing+=(ldap-utils)
have_postgres || missing+=(postgresql)
command -v chromium >/dev/null || missing+=(chromium)
have_cjk_font || missing+=(fonts-noto-cjk fontconfig)
compgen -G '/usr/lib/rabbitmq/lib/*/sbin/rabbitmq-server' >/dev/null || missing+=(rabbitmq-server)
command -v samba-tool >/dev/null && command -v samba >/dev/null || missing+=(samba samba-dsdb-modules samba-vfs-modules \
    samba-ad-provision winbind krb5-user ldb-tools python3-samba attr acl)
command -v wrk >/dev/null || missing+=(wrk)
command -v strace >/dev/null || missing+=(strace)
command -v nsenter >/dev/null || missing+=(util-linux)
for module in openidc mellon cas; do
    [ -e "/usr/lib/apache2/modules/mod_auth_$module.so" ] || missing+=("libapache2-mod-auth-$module")
done
[ -x /usr/sbin/apache2 ] || missing+=(apache2)
[ -x /usr/sbin/nginx ] || missing+=(nginx)
[ ${#missing[@]} -eq 0 ] && exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then as_root=(sudo -n); else cannot=yes; fi
fi
if [ -n "${cannot:-}" ] || ! command -v apt-get >/dev/null; then
    echo "The tests need these Debian packages (or what corresponds to them here): ${missing[*]}" >&2
    exit 1
fi

echo "Installing ${missing[*]}"
# Without this, Debian would start the servers on their default ports; the suite starts its own on free ones.
guard=/usr/sbin/policy-rc.d
if [ ! -e "$guard" ]; then
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$guard" >/dev/null
    "${as_root[@]}" chmod 755 "$guard"
    trap '"${as_root[@]}" rm -f "$guard"' EXIT
fi
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq update
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${missing[@]}" >/dev/null
