# What the builders of the Debian packages have in common; sourced by packaging/build-deb and packaging/build-deb-server.
#
# A builder sets `package` and `version`, fills the tree that begin_tree has made (its path is in `tree`, that of the
# package's documents in `doc`), and ends with finish_package. It runs in the project's directory.
# shellcheck shell=bash

architecture=$(dpkg --print-architecture)
target=${CARGO_TARGET_DIR:-target}
# Cargo's; what operators get is always the release. It names the directory, but for dev.
profile=${PACKAGE_PROFILE:-release}
built=$target/${profile/#dev/debug}

# The version of all crates.
workspace_version() {
	sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1
}

# An empty tree, removed when the builder ends.
begin_tree() {
	tree=$(mktemp -d)
	trap 'rm -rf "$tree"' EXIT
	chmod 0755 "$tree"
	doc=$tree/usr/share/doc/$package
	install -d -m 0755 "$tree/DEBIAN" "$doc"
}

install_man_page() { # FILE
	install -d -m 0755 "$tree/usr/share/man/man1"
	gzip --best --no-name <"$1" >"$tree/usr/share/man/man1/${1##*/}.gz"
}

# All pages of the documentation: they link to each other.
install_pages() {
	(cd docs && find . -type f \( -name '*.md' -o -name '*.json' \) -exec install -D -m 0644 {} "$doc/{}" \;)
}

# The copyright, and the changelog Debian asks for; its time is the last change's, so that a build can be repeated.
install_legal() { # FILE_WITH_MAINTAINER
	install -m 0644 packaging/debian/copyright "$doc"
	printf '%s (%s) stable; urgency=medium\n\n  * See CHANGELOG.md.gz beside this file.\n\n -- %s  %s\n' \
		"$package" "$version" "$(sed -n 's/^Maintainer: //p' "$1")" \
		"$(date --rfc-email --date "@$(git log -1 --format=%ct 2>/dev/null || stat --format=%Y Cargo.toml)")" |
		gzip --best --no-name >"$doc/changelog.gz"
}

# The packages of the libraries that files are linked with, as a list for Depends. A library that is not known here is an
# error, not a guess.
needed_packages() { # FILE...
	local libc library name list=
	libc=$(objdump -T "$@" | grep -o 'GLIBC_[0-9.]*' | sed 's/GLIBC_//' | sort -uV | tail -n 1)
	for library in $(objdump -p "$@" | sed -n 's/^ *NEEDED *//p' | sort -u); do
		case $library in
		ld-linux*|libm.so.6|libpthread.so.0|libdl.so.2|libc.so.6) name="libc6 (>= $libc)" ;;
		libgcc_s.so.1) name=libgcc-s1 ;;
		libssl.so.3|libcrypto.so.3) name="libssl3t64 | libssl3" ;;
		libz.so.1) name=zlib1g ;;
		libzstd.so.1) name=libzstd1 ;;
		liblua5.4.so.0) name=liblua5.4-0 ;;
		*) echo "no package is known for the library $library" >&2; return 1 ;;
		esac
		case ", $list," in *", $name,"*) ;; *) list+="${list:+, }$name" ;; esac
	done
	echo "$list"
}

# Writes the control file, the sums of what is not configuration, and the package; prints where that is.
finish_package() { # OUTPUT_DIRECTORY CONTROL_TEMPLATE [NAME=VALUE]...
	local output=$1 template=$2 deb pair expressions=()
	shift 2
	for pair in "PACKAGE=$package" "VERSION=$version" "ARCHITECTURE=$architecture" \
		"SIZE=$(du -sk --exclude=DEBIAN "$tree" | cut -f 1)" "$@"; do
		expressions+=(-e "s/@${pair%%=*}@/${pair#*=}/")
	done
	# A field that has no value in this package is left out.
	sed "${expressions[@]}" -e '/^[A-Z][A-Za-z-]*: *$/d' "$template" >"$tree/DEBIAN/control"
	(cd "$tree" && find . -path ./DEBIAN -prune -o -path ./etc -prune -o -type f -printf '%P\0' |
		sort -z | xargs -0 md5sum) >"$tree/DEBIAN/md5sums"
	mkdir -p "$output"
	deb=$output/${package}_${version}_$architecture.deb
	dpkg-deb --root-owner-group --build "$tree" "$deb" >/dev/null
	echo "$deb"
}
