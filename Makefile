# The front door. `make` alone prints the targets.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory --no-builtin-rules

CARGO ?= cargo
PREFIX ?= /usr
DESTDIR ?=

# Where cargo builds: people who use this module have CARGO_TARGET_DIR set, and sudo takes it away. So
# `make build` leaves a copy in the checkout, and `sudo make install` needs neither cargo nor that variable.
TARGET_DIR = $(shell $(CARGO) metadata --locked --no-deps --format-version 1 2>/dev/null | \
	sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
BUILT = $(TARGET_DIR)/release/libpam_cargo_target.so
MODULE := build/pam_cargo_target.so
TOOL := build/cargo-targetctl
SOURCES := Cargo.toml $(wildcard Cargo.lock) build.rs $(shell find src -type f 2>/dev/null) \
	packaging/cargo-target.conf CHANGELOG.md

# libpam looks in the one directory it was built with: the one where its own modules lie.
MULTIARCH := $(shell cc -print-multiarch 2>/dev/null || dpkg-architecture -qDEB_HOST_MULTIARCH 2>/dev/null)
PAM_LIBDIR := $(shell pkg-config --variable=libdir pam 2>/dev/null)
PAM_MODULE_DIRS := $(addsuffix /security, $(PAM_LIBDIR) $(MULTIARCH:%=$(PREFIX)/lib/%) $(MULTIARCH:%=/lib/%) \
	$(PREFIX)/lib64 /lib64 $(PREFIX)/lib /lib)
PAM_MODULE_DIR ?= $(firstword $(foreach dir,$(PAM_MODULE_DIRS),$(if $(wildcard $(dir)/pam_permit.so $(dir)/pam_unix.so),$(dir))) \
	$(PAM_MODULE_DIRS))

INSTALLED := $(DESTDIR)$(PAM_MODULE_DIR)/pam_cargo_target.so
INSTALLED_TOOL := $(DESTDIR)$(PREFIX)/bin/cargo-targetctl
INSTALLED_MANUALS := $(addprefix $(DESTDIR)$(PREFIX)/share/man/, \
	man8/pam_cargo_target.8 man5/cargo-target.conf.5 man8/cargo-targetctl.8)
INSTALLED_BASH := $(DESTDIR)$(PREFIX)/share/bash-completion/completions/cargo-targetctl
INSTALLED_ZSH := $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_cargo-targetctl
INSTALLED_FISH := $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/cargo-targetctl.fish
CONF := $(DESTDIR)/etc/security/cargo-target.conf
PAM_D := $(DESTDIR)/etc/pam.d

.PHONY: help build install uninstall demo check check-packages soak bench bench-migrate dist deb clean

help: ## print the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

define build-module
$(CARGO) rustc --locked --release --lib --crate-type cdylib --no-default-features
install -D -m 0644 '$(BUILT)' '$(MODULE)'
endef

# In a target directory of its own: building the tool builds the library with the tool's dependencies in it,
# which must not come to lie where the module does.
define build-tool
$(CARGO) build --locked --profile tool --bin cargo-targetctl --target-dir '$(TARGET_DIR)/tool'
install -D -m 0755 '$(TARGET_DIR)/tool/tool/cargo-targetctl' '$(TOOL)'
endef

build: ## build the module, pam_cargo_target.so, and the tool, cargo-targetctl
	@$(build-tool)
	$(build-module)

# For `install`: what is built and newer than its sources is installed as it is.
define not-by-sudo
if [[ $$EUID -eq 0 && -n "$${SUDO_USER-}" ]]; then
	echo '$@ is not built, or older than its sources. Build it as yourself first: make build' >&2
	exit 1
fi
endef

$(MODULE): $(SOURCES)
	@$(not-by-sudo)
	$(build-module)

$(TOOL): $(SOURCES)
	@$(not-by-sudo)
	$(build-tool)

# The module is put in place by a rename: a login at that moment finds the old one or the new one.
install: $(MODULE) $(TOOL) ## install it (DESTDIR, PREFIX, PAM_MODULE_DIR); a conf that is there stays
	@for dir in '$(dir $(INSTALLED))' '$(dir $(CONF))'; do
		[[ -d $$dir ]] || install -d -m 0755 "$$dir"
	done
	install -m 0644 '$(MODULE)' '$(INSTALLED).new'
	mv -f '$(INSTALLED).new' '$(INSTALLED)'
	echo 'installed $(INSTALLED)'
	install -D -m 0755 '$(TOOL)' '$(INSTALLED_TOOL)'
	for page in $(INSTALLED_MANUALS); do
		install -D -m 0644 <('$(TOOL)' manual "$$(basename "$${page%.?}")") "$$page"
	done
	install -D -m 0644 <('$(TOOL)' completions bash) '$(INSTALLED_BASH)'
	install -D -m 0644 <('$(TOOL)' completions zsh) '$(INSTALLED_ZSH)'
	install -D -m 0644 <('$(TOOL)' completions fish) '$(INSTALLED_FISH)'
	echo 'installed $(INSTALLED_TOOL), completions and the manual'
	if [[ -e '$(CONF)' ]]; then
		echo 'kept      $(CONF)'
	else
		install -m 0644 packaging/cargo-target.conf '$(CONF)'
		echo 'installed $(CONF)'
	fi
	if [[ -z '$(DESTDIR)' ]] && ! grep -qs '^[^#]*pam_cargo_target\.so' $(PAM_D)/*; then
		echo 'Nothing uses it yet. Next: cargo-targetctl init --root PATH, then cargo-targetctl doctor.'
	fi

uninstall: ## remove it; a conf that was edited, and the caches, stay
	@if users=$$(grep -ls '^[^#]*pam_cargo_target\.so' $(PAM_D)/*); then
		echo 'These files still name the module; remove its line from them, or libpam logs an error at each login:' >&2
		sed 's/^/    /' <<<"$$users" >&2
	fi
	rm -f '$(INSTALLED)' '$(INSTALLED_TOOL)' $(INSTALLED_MANUALS) '$(INSTALLED_BASH)' '$(INSTALLED_ZSH)' '$(INSTALLED_FISH)'
	echo 'removed $(INSTALLED) $(INSTALLED_TOOL)'
	if [[ ! -e '$(CONF)' ]]; then
		:
	elif cmp -s packaging/cargo-target.conf '$(CONF)'; then
		rm -f '$(CONF)'
		echo 'removed $(CONF)'
	else
		echo 'kept    $(CONF): it was edited; the caches below its root stay too'
	fi

demo: ## see it work on real logins over ssh, in a sandbox: nothing on this machine is changed
	@tests/prerequisites demo
	[[ $$EUID -eq 0 ]] || sudo -v
	$(build-tool)
	$(build-module)
	CARGO_TARGET_DIR='$(TARGET_DIR)' exec tests/sandbox tests/demo

# Each step prints its name first, so that a log that ends early says where.
check: ## format, lints, dependencies, the build, and the tests with real clients
	@steps=
	step() {
		local start=$$SECONDS name=$$1
		shift
		echo "== $$name"
		"$$@" || { echo "make check: failed at: $$name" >&2; exit 1; }
		steps+=$$(printf '%5d s  %s' $$((SECONDS - start)) "$$name")$$'\n'
	}
	build_module() {
		$(build-module)
	}
	build_tool() {
		$(build-tool)
	}
	# What the module and the tool are built of must build with the Rust that Cargo.toml names.
	old_rust_suffices() {
		local used
		used=$$($(CARGO) tree --locked --edges normal,build --prefix none --format '{p}' |
			awk '{ sub(/^v/, "", $$2); print $$1 " " $$2 }' | sort -u)
		$(CARGO) metadata --locked --format-version 1 | jq --raw-output --arg used "$$used" '
			def version: (. // "0") | split(".")[:2] | map(tonumber);
			($$used | split("\n")) as $$used
			| (.packages[] | select(.name == "pam_cargo_target").rust_version | version) as $$ours
			| .packages[]
			| select("\(.name) \(.version)" | IN($$used[]))
			| "\(.name) \(.version): \(.rust_version // "undeclared")",
				if (.rust_version | version) > $$ours then error("\(.name) \(.version) needs Rust \(.rust_version)") else empty end'
	}
	only_pam_symbols() {
		local symbols
		symbols=$$(nm -D --defined-only '$(BUILT)' | awk '{ print $$NF }')
		echo $$symbols
		grep -qx pam_sm_open_session <<<"$$symbols"
		! grep -v '^pam_sm_' <<<"$$symbols"
	}
	begin=$$SECONDS
	step 'prerequisites' tests/prerequisites check
	[[ $$EUID -eq 0 ]] || sudo -v
	step 'format' $(CARGO) fmt --check
	step 'lints' $(CARGO) clippy --locked --quiet --all-targets -- -D warnings
	step 'lints of the module alone' $(CARGO) clippy --locked --quiet --no-default-features --lib -- -D warnings
	step 'dependencies build with the declared Rust' old_rust_suffices
	step 'the tool' build_tool
	step 'the packaged module' build_module
	step 'exported symbols' only_pam_symbols
	[[ $$EUID -eq 0 ]] || sudo -v
	step 'tests' $(CARGO) test --locked
	printf '\nmake check: all of it passed\n%s%5d s  in all\n' "$$steps" $$((SECONDS - begin))

# The tests that `check` runs in short form, or not at all; each ends with a line of what it measured.
soak: ## the long forms of the attacks, faults, crowds and fuzzing
	@tests/prerequisites check
	[[ $$EUID -eq 0 ]] || sudo -v
	$(build-module)
	$(CARGO) test --locked --test integration -- --ignored --nocapture --test-threads=1 soak_

bench: ## measure sessions, logins and builds beside what an administrator would use instead
	@tests/prerequisites bench
	[[ $$EUID -eq 0 ]] || sudo -v
	$(build-module)
	$(CARGO) build --locked --release --manifest-path benches/empty/Cargo.toml --target-dir '$(TARGET_DIR)/bench/empty'
	benches/unpack-tmpdir '$(TARGET_DIR)/bench/tmpdir'
	CARGO_TARGET_DIR='$(TARGET_DIR)' exec tests/sandbox env TARGET_DIR='$(TARGET_DIR)' \
		$(foreach name,COLD WARM LOGINS,$(if $($(name)),$(name)='$($(name))')) benches/run $(PARTS)

bench-migrate: ## measure migrate beside mv, chown and cp (10 GB of disk, some minutes)
	@$(build-tool)
	CARGO_TARGET_DIR='$(TARGET_DIR)' exec benches/migrate

# Its own Debian systems are made by mmdebstrap, once, and kept below the target directory.
check-packages: ## build the packages, and log in on Debian systems that have them; CI runs it after check
	@tests/prerequisites packages
	[[ $$EUID -eq 0 ]] || sudo -v
	tests/packages/run

VERSION := $(shell sed -n 's/^version = "\(.*\)"$$/\1/p;T;q' Cargo.toml)
TARBALL := build/pam_cargo_target-$(VERSION).tar.gz

dist: ## write the sources and all the crates they need into one tarball, the same bytes each time
	@packaging/dist '$(TARBALL)'
	sha256sum '$(TARBALL)'

deb: ## build the Debian package for this system, from that tarball
	@tests/prerequisites deb
	$(MAKE) dist
	packaging/deb '$(TARBALL)' build

clean: ## remove what was built
	@$(CARGO) clean
	rm -rf build
