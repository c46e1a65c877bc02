# Plain commands, each of which works on a machine with Go and apt (or with the tools already there).
#
#   make demo   the whole system on loopback: installs haproxy if it is missing
#   make test   vet and all tests, with the race detector, in random order
#   make e2e    clusters with a real control plane and real node ports, in namespaces that end with it (root; E2EFLAGS='-only cordon')
#   make bench  every benchmark, ours and the comparisons (BENCH=regexp, BENCHTIME=1s, COUNT=1)
#   make bench-peers   the SNI router beside nginx, HAProxy, sniproxy and tcpproxy, in one run
#   make fuzz   every fuzz target for FUZZTIME each
#   make lint   staticcheck, gofumpt, govulncheck, and builds for other systems
#   make ci     all of it

GO          ?= go
BENCH       ?= .
BENCHTIME   ?= 1s
COUNT       ?= 1
FUZZTIME    ?= 10s
STATICCHECK  = honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOFUMPT      = mvdan.cc/gofumpt@v0.12.0
GOVULNCHECK  = golang.org/x/vuln/cmd/govulncheck@v1.9.0
# The comparisons with other libraries have a module of their own, so that nobody inherits those.
BENCHMODULE  = internal/benchmarks
# So has the test cluster, and Kubernetes, which it builds, another within.
E2EMODULE    = examples/e2e
PLATFORMS    = linux/arm64 darwin/arm64 windows/amd64
SUDO        := $(shell [ "$$(id -u)" = 0 ] || command -v sudo)

# Debian puts haproxy where a user's PATH does not look.
export PATH := $(PATH):/usr/sbin:/usr/local/sbin

.PHONY: demo test e2e bench bench-peers fuzz lint ci haproxy cc clients peers network

demo: haproxy
	$(GO) run ./examples/quickstart

# Everything is compiled once, for the race detector, and linked without what debuggers want. Most tests wait more
# than they compute, so that more packages run at once than there are processors.
test: haproxy cc clients
	$(GO) vet -race ./...
	$(GO) test -race -shuffle=on -vet=off -ldflags=-w -p $$(($$(getconf _NPROCESSORS_ONLN) * 2)) ./...
	cd $(BENCHMODULE) && $(GO) vet ./... && $(GO) test ./...

# The first build of Kubernetes takes minutes; after that there is nothing left to do. Without cgo the tests share
# what the build has compiled.
e2e: haproxy network
	$(E2EMODULE)/build.sh
	cd $(E2EMODULE) && export CGO_ENABLED=0 && $(GO) vet ./... && $(GO) test ./...
	$(SUDO) $(E2EMODULE)/bin/e2e $(E2EFLAGS)

bench: haproxy
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem -benchtime $(BENCHTIME) -count $(COUNT) ./...
	cd $(BENCHMODULE) && $(GO) test -run '^$$' -bench '$(BENCH)' -benchmem -benchtime $(BENCHTIME) -count $(COUNT) ./...

bench-peers: peers
	cd $(BENCHMODULE) && $(GO) run ./sniproxy $(PEERFLAGS)

# go test fuzzes one target of one package at a time. At times it reports the end of its own time as the failure
# "context deadline exceeded"; an input that fails, committed or found, is always named.
fuzz:
	@for file in $$(grep -rl --include='*_test.go' '^func Fuzz' .); do \
		for target in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' $$file); do \
			echo "== $$(dirname $$file) $$target"; \
			out=$$($(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x $$(dirname $$file) 2>&1) || \
				case "$$out" in \
				*"Failing input"*|*"FAIL: $$target/"*) echo "$$out"; exit 1;; \
				*"    context deadline exceeded"*) ;; \
				*) echo "$$out"; exit 1;; \
				esac; \
			echo "$$out" | grep 'fuzz: elapsed' | tail -n 1; \
		done; \
	done

lint:
	$(GO) run $(STATICCHECK) ./...
	cd $(BENCHMODULE) && $(GO) run $(STATICCHECK) ./...
	cd $(E2EMODULE) && $(GO) run $(STATICCHECK) ./...
	@files=$$($(GO) run $(GOFUMPT) -l .) || exit; [ -z "$$files" ] || { $(GO) run $(GOFUMPT) -d $$files; echo "gofumpt: the files above want formatting"; exit 1; }
	@set -e; for platform in $(PLATFORMS); do \
		echo "build $$platform"; \
		GOOS=$${platform%/*} GOARCH=$${platform#*/} CGO_ENABLED=0 $(GO) build ./...; \
	done
# govulncheck exits 3 for findings; anything else that fails is the database out of reach.
	@if out=$$($(GO) run $(GOVULNCHECK) ./... 2>&1); then echo "$$out" | tail -n 1; else \
		case "$$out" in *"exit status 3"*) echo "$$out"; exit 1;; *) echo "govulncheck: not checked: $$(echo "$$out" | grep -v downloading | head -n 1)";; esac; fi

ci: test lint demo e2e
	$(MAKE) fuzz FUZZTIME=5s
	$(MAKE) bench BENCHTIME=1x
	$(MAKE) bench-peers PEERFLAGS='-quick -peers nginx,haproxy,snirouter'

haproxy:
	$(call install,haproxy,haproxy)

# The race detector links with a C compiler.
cc:
	$(call install,$$($(GO) env CC),gcc libc6-dev)

# Real clients: the router is tested with them.
clients:
	$(call install,curl openssl chromium,curl openssl chromium)

# What a node is made of: a network namespace, and the kernel's packet filter for kube-proxy.
network:
	$(call install,ip nft,iproute2 nftables)

peers: haproxy
	$(call install,nginx sniproxy,nginx-light libnginx-mod-stream sniproxy)

# $(call install,COMMANDS,PACKAGES) installs packages if one of the commands is missing.
define install
	@for c in $(1); do command -v $$c >/dev/null && continue; \
		command -v apt-get >/dev/null || { echo "$$c is needed on PATH"; exit 1; }; \
		echo "installing $(2)"; \
		$(SUDO) apt-get update -qq && $(SUDO) env DEBIAN_FRONTEND=noninteractive \
			apt-get install -y -qq --no-install-recommends $(2) >/dev/null; exit; \
	done
endef
