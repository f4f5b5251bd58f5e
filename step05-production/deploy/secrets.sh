#!/bin/sh
# Makes passwords into secrets/, which Git does not see: for Redis, the URL by which the servers reach it, and
# Grafana. It changes nothing that is there already.
#
# Usage: ./secrets.sh [FOLDER] [REDIS]      REDIS is host:port, redis:6379 if not given
set -eu
umask 077
here=$(cd "$(dirname "$0")" && pwd)
folder=${1:-$here/secrets}
redis=${2:-redis:6379}

if [ -e "$folder/users.acl" ]; then
    echo "$folder is there already; remove it to make new passwords" >&2
    exit 1
fi

password() { head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n'; }
sha256() { printf %s "$1" | sha256sum | cut -d ' ' -f 1; }

mkdir -p "$folder"
chat=$(password)
operator=$(password)
printf 'redis://chat:%s@%s/0' "$chat" "$redis" >"$folder/redis_url"
printf %s "$operator" >"$folder/redis_operator"
password >"$folder/grafana_password"
sed -e '/^#/d' -e "s/#CHAT_SHA256/#$(sha256 "$chat")/" -e "s/#OPERATOR_SHA256/#$(sha256 "$operator")/" \
    "$here/redis/users.acl" >"$folder/users.acl"
# Containers run as users of their own, and Docker gives them the files as they are: the folder keeps
# everyone else on this machine out.
chmod 700 "$folder"
chmod 644 "$folder"/*
echo "made $folder"
