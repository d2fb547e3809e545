#!/bin/sh
# Makes a certificate authority, a certificate for the broker and one for each party (common name = party).
# For a trial on one machine: in production every party has its own key made in its own house.
#
#   deploy/certificates.sh DIRECTORY BROKER_HOST PARTY...
set -eu
umask 077
directory=$1 host=$2
shift 2
mkdir -p "$directory"
cd "$directory"

new_key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1"; }

sign() { # NAME COMMON_NAME EXTENSIONS
    new_key "$1.key"
    openssl req -new -key "$1.key" -subj "/CN=$2" -out "$1.csr"
    printf '%s\n' "$3" >"$1.ext"
    openssl x509 -req -in "$1.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days 825 -sha256 \
        -extfile "$1.ext" -out "$1.pem" 2>/dev/null
    rm "$1.csr" "$1.ext"
}

new_key ca.key
openssl req -x509 -new -key ca.key -sha256 -days 3650 -subj "/CN=Warren trial authority" -out ca.pem \
    -addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign,cRLSign"
sign broker "$host" "subjectAltName=DNS:$host,DNS:localhost,IP:127.0.0.1
extendedKeyUsage=serverAuth"
for party in "$@"; do
    sign "$party" "$party" "extendedKeyUsage=clientAuth"
done
# Containers read them under other user ids; the directory itself is closed to everybody else (umask).
chmod 644 ./*.pem broker.key
for party in "$@"; do chmod 644 "$party.key"; done
