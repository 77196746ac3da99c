#!/bin/sh
# Makes the certificates of tests/webhook/given.rs, as people make theirs. Valid for a century.
set -eu
cd "$(dirname "$0")"
days="-days 36500"
# Self-signed: openssl makes it one of an authority (CA:TRUE).
openssl req -x509 -newkey rsa:2048 -nodes -keyout self-signed.key -out self-signed.pem $days \
    -subj /CN=localhost -addext "subjectAltName=DNS:localhost"
# Self-signed without alternative names: the common name is all there is.
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout common-name.key -out common-name.pem $days \
    -subj /CN=localhost
# X.509 version 1.
openssl req -newkey rsa:2048 -nodes -keyout version-1.key -out request -subj /CN=localhost
openssl x509 -req -in request -signkey version-1.key -out version-1.pem $days
# A private authority, and servers of it: one with alternative names, one with its common name only.
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-384 -nodes -keyout authority.key -out authority.pem $days \
    -subj "/CN=an authority"
leaf() {
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$1.key" -out request -subj /CN=localhost
    printf 'basicConstraints=CA:FALSE\n%s\n' "$2" > extensions
    openssl x509 -req -in request -CA authority.pem -CAkey authority.key -CAcreateserial -out "$1.pem" $days -extfile extensions
}
leaf leaf subjectAltName=DNS:localhost
leaf leaf-common-name ""
leaf elsewhere subjectAltName=DNS:example.org
# Keys that are not supported; the servers are never run.
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-521 -nodes -keyout refused.key -out p-521.pem $days \
    -subj /CN=localhost -addext "subjectAltName=DNS:localhost"
openssl req -x509 -newkey rsa:1024 -nodes -keyout refused.key -out rsa-1024.pem $days \
    -subj /CN=localhost -addext "subjectAltName=DNS:localhost"
rm -f request extensions refused.key authority.key authority.srl
