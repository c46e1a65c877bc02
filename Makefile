# Each command works on a machine with Go and apt, or with the tools already installed.
#
#   make demo   runs the whole system on loopback; installs haproxy if it is missing
#   make drill  replays faults against the inputs of the demo, and prints a table (DRILLFLAGS=-details prints more)
#   make demo-imbalance   shows how evenly requests spread over pods that start one after another, behind a TCP balancer
#               and behind front proxies; prints a table and writes a chart (SVG=imbalance.svg)
#   make test   the tests of all packages and binaries, in random order; 3 to 6 minutes on 2 cores with an empty build cache
#   make test-race   the same tests with the race detector, and the tests of internal/benchmarks, which need libraries that
#               take long to compile; make ci runs these
#   make e2e    tests on clusters with a real control plane and real node ports, in namespaces that end with the run
#               (needs root; E2EFLAGS='-only cordon' runs one scenario)
#   make bench  runs every benchmark, of the packages and of the comparisons (BENCH=regexp, BENCHTIME=1s, COUNT=1)
#   make bench-quic    compares the SNI router with nginx as relays of QUIC (QUICFLAGS)
#   make bench-peers   compares the SNI router with nginx, HAProxy, sniproxy and tcpproxy in one run (PEERFLAGS); PEERFLAGS=-hellos
#               counts which hellos of real clients each of them routes
#   make bench-scaling   compares the SNI router with Traefik, and nginx and HAProxy of three suites of Debian, with growing numbers
#               of processors, connections and hosts; it measures for at most 12 minutes, and then writes the figures, the chart
#               and the tables of internal/benchmarks (SCALINGFLAGS=-quick writes nothing)
#   make fuzz   runs every fuzz target for FUZZTIME, and keeps inputs that fail in testdata/fuzz of the package and in out/crashers
#   make binaries   builds the static binaries of a release, as out/linux-ARCH/NAME (ARCHS='amd64 arm64', BINARIES='terminator')
#   make sbom   also lists the modules of each binary, in CycloneDX JSON, as out/sbom/linux-ARCH/NAME.cdx.json, and checks the lists
#   make release   also packs all, with checksums, in out/release; .github/workflows/release.yml signs and publishes them
#   make test-reproducible   builds the binaries in another directory with an empty build cache, and compares their bytes with
#               those that make release has built from this commit; without these, it builds twice
#   make lint   vet, staticcheck, gofumpt, govulncheck, actionlint, licences of other modules, and builds for other systems
#   make licences   writes the tables of licences in THIRD-PARTY.md
#   make haproxies   fetches the haproxy of each Debian suite in HAPROXY_SUITES: HAPROXY_DIR/2.6/haproxy, HAPROXY_DIR/3.0/haproxy ...
#   make test-haproxies   runs the tests with each of them (VERSIONS='2.6 newest', PACKAGES=./haproxycfg/edge)
#   make ci     all of these, fuzz and benchmarks in short; about 40 minutes on 2 cores, longer with empty caches; .ci/run calls it.
#               Of the haproxies it runs the oldest and the newest, and only the tests of agents, reloads, refusals and front proxies
#   make test-coredns   runs the Corefile of examples/nodelocaldns in a real CoreDNS, and tests its alerts; the first build
#               takes minutes, so make ci does not run it
#   make test-oldest-go   runs all tests with the oldest version of Go that go.mod permits
#   make test-qemu   runs the tests of hashring on emulated machines: arm64, and the big-endian s390x
#   make test-coming-from   runs the example of the page about nginx with a real nginx; make ci does not run it
#   make test-nginx   fetches the nginx of Debian 13, which reads the TLVs of PROXY headers from the SNI router; make ci does not
#               run it
#   make test-openssl   fetches OpenSSL 4 from Debian experimental, and tests Encrypted ClientHello through the SNI router with it;
#               make ci does not run it
#   make image  builds an OCI image layout of these binaries, without Docker, in IMAGE_DIR (ARCHS='amd64 arm64')
#   make test-image   builds the image for one architecture, and runs each binary in a chroot; make ci does not run it
#   make test-pages   runs the commands of the pages "From zero to running", and compares their output (needs root;
#               PAGEFLAGS=-v prints all, PAGES=examples/START-ROUTER.md runs one page). The pages clone and build the last commit
#   make test-rules   tests the recording rules and alerts of the binaries
#   make test-dashboards   runs the edge, the router and front proxies with a real Prometheus, and checks each query of the
#               dashboards for Grafana
#   make ci-full   make ci, and all that takes longer, in about 2 hours; run it before a release:
#               all tests with every haproxy and with the oldest Go, every test REPEAT times, longer fuzzing and benchmarks,
#               the comparison of all routers in 7 rounds, the end-to-end test once more with the newest haproxy, and its
#               long scenarios. On the same commit, a second call continues where the first one ended

GO          ?= go
BENCH       ?= .
BENCHTIME   ?= 1s
# An empty pattern skips nothing.
BENCHSKIP   ?=
COUNT       ?= 1
FUZZTIME    ?= 10s
REPEAT      ?= 3
# How often the test of reloads reloads each of the haproxies while clients are connected. make test has few reloads.
RELOADS     ?= 50
STATICCHECK  = honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOFUMPT      = mvdan.cc/gofumpt@v0.12.0
GOVULNCHECK  = golang.org/x/vuln/cmd/govulncheck@v1.9.0
ACTIONLINT   = github.com/rhysd/actionlint/cmd/actionlint@v1.7.12
CYCLONEDX    = github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0
# The comparisons are a module of their own, so that importers of headgate do not inherit the libraries they compare.
BENCHMODULE  = internal/benchmarks
# The end-to-end test is a module of its own. It contains another module that pins the version of Kubernetes it builds.
E2EMODULE    = examples/e2e
# CoreDNS is a module of its own too.
DNSMODULE    = examples/nodelocaldns/coredns
# The binaries that users get, and their architectures.
BINARIES    ?= $(filter-out quickstart e2e,$(notdir $(patsubst %/main.go,%,$(wildcard examples/*/main.go))))
ARCHS       ?= amd64 arm64
# With these flags and without cgo, the same commit and the same version of Go give the same bytes in every directory. The
# binaries need no library, and keep their build information: go version -m NAME prints the commit and all modules.
BUILDFLAGS   = -trimpath -buildvcs=$(BUILDVCS) '-ldflags=-s -w'
# false where git cannot read the repository, for example in an archive of the sources.
BUILDVCS    ?= $(if $(shell git rev-parse HEAD 2>/dev/null),true,false)
# The image has a module of its own, because of the library that writes it.
IMAGEMODULE  = internal/image
IMAGE_DIR   ?= out/image
IMAGE_TAG   ?= $(shell git describe --tags --always --dirty)
# The time of the image.
SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct)
# Other systems than Linux. make release builds for Linux on arm64.
PLATFORMS    = darwin/arm64 windows/amd64
# The suites of Debian whose haproxy make haproxies fetches. bookworm has 2.6 and trixie has 3.0, which must be there. The
# others have later versions, or fail with one line of output. To add a version, add a suite that has it, or put a haproxy
# of your own at HAPROXY_DIR/VERSION/haproxy.
HAPROXY_SUITES ?= bookworm trixie testing experimental
# The tests check golden files with every haproxy here, and run all other tests with the haproxy on PATH.
export HAPROXY_DIR ?= $(HOME)/.cache/headgate/haproxy
# The versions and packages of make test-haproxies. An empty VERSIONS means every haproxy in HAPROXY_DIR.
VERSIONS    ?=
PACKAGES    ?= ./...
SUDO        := $(shell [ "$$(id -u)" = 0 ] || command -v sudo)

# Debian installs haproxy in a directory that the PATH of an ordinary user lacks.
export PATH := $(PATH):/usr/sbin:/usr/local/sbin

.PHONY: demo drill demo-imbalance test test-packages test-comparisons compile e2e e2e-build e2e-long bench bench-long bench-peers bench-scaling bench-quic bench-rounds fuzz fuzz-long test-fuzz binaries sbom release vulnerabilities test-reproducible test-oldest-go test-qemu licences test-licences vet lint ci ci-oldest ci-newest ci-full test-repeated haproxies test-haproxies test-other-haproxies test-versions e2e-newest \
	haproxy cc test-tools network peers nginxes test-coredns test-rules test-dashboards promtool image test-image test-pages

demo: haproxy
	$(GO) run ./examples/quickstart

# drill exits with 3, because some drills break the default policy.
drill:
	@set -e; dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; \
	$(GO) build -o "$$dir" ./examples/drill; cd examples/quickstart/system; \
	"$$dir/drill" -routes routes.yaml -cluster eu-1=dir:eu-1 -cluster eu-2=dir:eu-2 \
		-nodes-per-service 3 -allow-nodes 127.0.0.0/8 -begin 2026-01-01T00:00:00Z $(DRILLFLAGS) || [ $$? = 3 ]

SVG ?= imbalance.svg
demo-imbalance: haproxy
	@set -e; dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; \
	$(GO) build -o "$$dir" ./examples/frontproxy; \
	cd $(BENCHMODULE) && $(GO) build -o "$$dir" ./imbalance && cd $(CURDIR) && "$$dir/imbalance" -frontproxy "$$dir/frontproxy" -svg $(SVG)

# All tests use the same flags, so that Go compiles each package once: without the data that only debuggers read. The tests start go build themselves, so the flags are in GOFLAGS. One go test compiles and tests,
# so that tests wait while Go compiles the next ones. Most tests wait more than they compute, so more packages run
# at once than there are processors.
#
# With GOGC=400 the compiler, the linker and the tests collect garbage less often, which saves about a fifth of their
# CPU time.
TESTFLAGS = -gcflags=all=-dwarf=false -ldflags=-w
# The race detector makes packages slower to compile and tests slower to run. So make test runs without it, and make ci
# and make ci-full run all tests with it.
RACE     ?=
PARALLEL := $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) * 3)))
test-race: RACE := -race
test test-race: export GOFLAGS := $(GOFLAGS) $(RACE) $(TESTFLAGS)
test-repeated test-versions vet: export GOFLAGS := $(GOFLAGS) -race $(TESTFLAGS)
test-oldest-go: export GOFLAGS := $(GOFLAGS) $(TESTFLAGS)
test test-race test-repeated test-versions test-oldest-go vet: export GOGC := 400
test:
	$(MAKE) --no-print-directory -j 2 test-tools compile
	$(MAKE) --no-print-directory test-packages

.PHONY: test-race
test-race:
	$(MAKE) --no-print-directory -j 2 test-tools compile
	$(MAKE) --no-print-directory -j 2 --output-sync=target test-packages test-comparisons

# While apt installs a missing tool, Go compiles.
compile: cc
	@for tool in $(TESTTOOLS); do command -v $$tool >/dev/null || { echo "compiling"; $(GO) list -export ./... >/dev/null; break; }; done

# The packages whose tests wait longest come first. At the end, they would keep one processor idle. Go compiles little for
# the first ones, so their tests wait while it compiles the client of Kubernetes.
test-packages:
	.ci/again $(GO) test -shuffle=on -vet=off -p $(PARALLEL) ./sniproxy/relay ./haproxycfg/edge ./haproxycfg/deploy ./haproxycfg/frontproxy ./examples/terminator ./haproxycfg/... ./...

test-comparisons:
	cd $(BENCHMODULE) && $(CURDIR)/.ci/again $(GO) test -shuffle=on -vet=off ./...

# Random and statistical tests make SCALE times as many rounds as in make test.
SCALE ?= 4
test-repeated: export HEADGATE_TEST_SCALE := $(SCALE)
test-repeated: test-tools
	$(GO) test -count=$(REPEAT) -shuffle=on -vet=off -timeout 30m -p $(PARALLEL) ./...

# The oldest version of Go that go.mod permits. Go fetches it from the module proxy. The race detector has run before.
OLDESTGO = go$(shell sed -n 's/^go //p' go.mod)
test-oldest-go: export GOTOOLCHAIN = $(OLDESTGO)
test-oldest-go: export CGO_ENABLED = 0
test-oldest-go: test-tools
	$(GO) version
	$(GO) vet ./...
	$(GO) test -count=1 -shuffle=on -vet=off -timeout 20m -p $(PARALLEL) ./...

# The score of hashring must be the same on every machine: arm64 may fuse a product with a sum, and s390x is big-endian.
# Each test binary runs in an emulator.
QEMU = arm64:aarch64 s390x:s390x
test-qemu:
	@.ci/install '$(foreach machine,$(QEMU),qemu-$(lastword $(subst :, ,$(machine)))-static)' qemu-user-static
	@set -e; dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; \
	for machine in $(QEMU); do \
		echo "== hashring on $${machine%:*}"; \
		GOOS=linux GOARCH=$${machine%:*} CGO_ENABLED=0 $(GO) test -c -vet=off -o "$$dir/test" ./hashring; \
		(cd hashring && qemu-$${machine#*:}-static "$$dir/test" -test.shuffle=on -test.timeout 20m); \
	done

haproxies:
	@.ci/haproxies $(HAPROXY_DIR) $(HAPROXY_SUITES)

# Go repeats only the tests that look for haproxy on PATH. The results of the others are in its cache.
test-haproxies: test-tools haproxies
	@$(MAKE) --no-print-directory test-versions

# For make ci-full. Its other parts run all tests with the haproxy on PATH, so this version runs only the tests that
# HEADGATE_RELOADS makes longer.
test-other-haproxies: test-tools haproxies
	@set -e; known=$$(haproxy -v | sed -n 's/^HAProxy version \([0-9]*[.][0-9]*\).*/\1/p'); \
	others=$$(cd $(HAPROXY_DIR) && ls -d [0-9]*.[0-9]* | grep -vxF "$$known" | sort -V | xargs); \
	if [ -e "$(HAPROXY_DIR)/$$known" ]; then $(MAKE) --no-print-directory test-versions VERSIONS="$$known" PACKAGES=./haproxycfg/edge; fi; \
	$(MAKE) --no-print-directory test-versions VERSIONS="$$others"

test-versions: export HEADGATE_RELOADS := $(RELOADS)
# Without these versions the tests fail.
test-versions: export HEADGATE_HAPROXIES := 2.6 3.0
test-versions:
	@set -e; cd $(HAPROXY_DIR); all=$$(ls -d [0-9]*.[0-9]* | sort -V); cd $(CURDIR); \
	versions='$(VERSIONS)'; \
	for version in $${versions:-$$all}; do \
		[ $$version != newest ] || version=$$(echo "$$all" | tail -n 1); \
		echo "== tests with HAProxy $$version"; \
		PATH="$(HAPROXY_DIR)/$$version:$$PATH" .ci/again $(GO) test -vet=off -timeout 20m -p $(PARALLEL) $(PACKAGES); \
	done

# The first build of Kubernetes takes minutes, later ones take seconds. With the flags of build.sh, the tests share what it
# has compiled.
e2e: e2e-build
	.ci/again $(SUDO) $(E2EMODULE)/bin/e2e $(E2EFLAGS)

e2e-build: haproxy network
	$(E2EMODULE)/build.sh
	cd $(E2EMODULE) && export CGO_ENABLED=0 GOFLAGS='$(GOFLAGS) $(TESTFLAGS)' && $(GO) vet ./... && $(GO) test ./...

# The scenarios that are too slow for make ci.
LONGSCENARIOS = nodegatelong
e2e-long: e2e-build
	$(SUDO) $(E2EMODULE)/bin/e2e -only $(LONGSCENARIOS)

# Without cgo the linker of Go is enough, and no C compiler is needed.
test-coredns: export CGO_ENABLED = 0
test-coredns: promtool
	cd $(DNSMODULE) && nice $(GO) vet ./... && nice $(GO) run $(STATICCHECK) ./... && nice $(GO) test -count=1 ./...
	cd examples/nodelocaldns/kubernetes && promtool check rules alerts.yaml && promtool test rules alerts_test.yaml

test-rules: promtool
	for binary in terminator snirouter nodeagent frontproxy nodegate; do (cd examples/$$binary/kubernetes && promtool check rules rules.yaml && promtool test rules rules_test.yaml) || exit; done

test-dashboards: haproxy promtool
	@set -e; dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; \
	$(GO) build -o "$$dir" ./examples/terminator ./examples/nodeagent ./examples/snirouter ./examples/hostapi ./examples/frontproxy; \
	cd $(BENCHMODULE) && $(GO) build -o "$$dir" ./dashboards && cd $(CURDIR) && "$$dir/dashboards" -bin "$$dir" $(DASHBOARDFLAGS)

# out/licences has the texts that each copy of the binaries must contain.
image: binaries
	rm -rf out/licences && mkdir -p out/licences && cp LICENSE out/licences/
	$(LICENCES) -texts out/licences/LICENSES .
	cd $(IMAGEMODULE) && CGO_ENABLED=0 $(GO) run -buildvcs=false . -out '$(abspath $(IMAGE_DIR))' -tag '$(IMAGE_TAG)' -created $(SOURCE_DATE_EPOCH) \
		-licences '$(CURDIR)/out/licences' -revision '$(shell git rev-parse HEAD)' $(foreach arch,$(ARCHS),linux/$(arch)='$(CURDIR)/out/linux-$(arch)')

test-image: export CGO_ENABLED = 0
test-image:
	cd $(IMAGEMODULE) && $(GO) vet ./... && $(GO) run $(STATICCHECK) ./... && $(GO) test -count=1 ./...

# The program that runs the pages is a module of its own.
PAGES ?= $(wildcard examples/START-*.md)
test-pages: export CGO_ENABLED = 0
test-pages: network
	cd .ci/pages && $(GO) vet ./... && $(GO) run $(STATICCHECK) ./...
	@set -e; dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; \
	(cd .ci/pages && $(GO) build -buildvcs=false -o "$$dir/pages" . && $(GO) test -c -vet=off -o "$$dir/test" .); \
	(cd .ci/pages && $(SUDO) env PATH="$$PATH" "$$dir/test" -test.shuffle=on); \
	unset CGO_ENABLED; $(SUDO) env PATH="$$PATH" "$$dir/pages" $(PAGEFLAGS) . $(PAGES)

# All scenarios with the newest HAProxy. make ci runs them with the haproxy on PATH.
e2e-newest: e2e-build haproxies
	newest=$$(cd $(HAPROXY_DIR) && ls -d [0-9]*.[0-9]* | sort -V | tail -n 1); \
	$(SUDO) env PATH="$(HAPROXY_DIR)/$$newest:$$PATH" $(E2EMODULE)/bin/e2e $(E2EFLAGS)

bench: haproxy
	$(GO) test -run '^$$' -bench '$(BENCH)' -skip '$(BENCHSKIP)' -benchmem -benchtime $(BENCHTIME) -count $(COUNT) ./...
	cd $(BENCHMODULE) && $(GO) test -run '^$$' -bench '$(BENCH)' -skip '$(BENCHSKIP)' -benchmem -benchtime $(BENCHTIME) -count $(COUNT) ./...

bench-peers: peers
	cd $(BENCHMODULE) && $(GO) run ./sniproxy $(PEERFLAGS)

SCALINGFLAGS ?= -json scaling.json -page README.md
bench-scaling: haproxies nginxes
	cd $(BENCHMODULE) && $(GO) run ./sniproxy -scaling $(SCALINGFLAGS)

bench-quic: peers
	cd $(BENCHMODULE) && $(GO) run ./sniproxy/quic $(QUICFLAGS)

# No variable of the environment may change the bytes.
binaries: export GOFLAGS :=
binaries: export GOEXPERIMENT :=
binaries: export CGO_ENABLED := 0
binaries: export GOAMD64 := v1
binaries: export GOARM64 := v8.0
binaries:
	@set -e; for arch in $(ARCHS); do \
		echo "build linux/$$arch: $(BINARIES)"; \
		rm -rf out/linux-$$arch; \
		GOOS=linux GOARCH=$$arch $(GO) build $(BUILDFLAGS) -o out/linux-$$arch/ $(addprefix ./examples/,$(BINARIES)); \
	done

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
sbom: binaries
	@rm -rf out/sbom; set -e; for arch in $(ARCHS); do for name in $(BINARIES); do \
		mkdir -p out/sbom/linux-$$arch; \
		list=out/sbom/linux-$$arch/$$name.cdx.json; \
		$(GO) run $(CYCLONEDX) bin -json -std -noserial -notimestamp -version '$(VERSION)' -output $$list out/linux-$$arch/$$name; \
		$(GO) run -C .ci/sbom . $(CURDIR)/$$list $(CURDIR)/out/linux-$$arch/$$name; \
		echo "$$list: valid, names the modules of the binary"; \
	done; done

release: sbom image
	@GO='$(GO)' .ci/release '$(VERSION)' '$(ARCHS)'

test-reproducible:
	@GO='$(GO)' MAKE='$(MAKE)' BINARIES='$(BINARIES)' ARCHS='$(ARCHS)' BUILDVCS='$(BUILDVCS)' .ci/reproducible

fuzz:
	@GO='$(GO)' .ci/fuzz $(FUZZTIME)

# Tests .ci/fuzz itself.
test-fuzz:
	@GO='$(GO)' .ci/test-fuzz

# It has the flags of make test, because Go has compiled all packages with them.
vet: cc
	$(GO) vet ./...
	cd $(BENCHMODULE) && $(GO) vet ./...

lint: vet
	$(GO) run $(STATICCHECK) ./...
	cd $(BENCHMODULE) && $(GO) run $(STATICCHECK) ./...
	cd $(E2EMODULE) && $(GO) run $(STATICCHECK) ./...
	@files=$$($(GO) run $(GOFUMPT) -l .) || exit; [ -z "$$files" ] || { $(GO) run $(GOFUMPT) -d $$files; echo "gofumpt: format the files above"; exit 1; }
	@# It compiles without optimization and links nothing, because nobody runs the result.
	@set -e; for platform in $(PLATFORMS); do \
		echo "compile for $$platform"; \
		GOOS=$${platform%/*} GOARCH=$${platform#*/} CGO_ENABLED=0 $(GO) list -export '-gcflags=all=-dwarf=false -N -l' ./... >/dev/null; \
	done
	$(MAKE) --no-print-directory vulnerabilities
	$(GO) run $(ACTIONLINT) .github/workflows/*.yml
	for module in .ci/licences .ci/sbom; do (cd $$module && $(GO) vet ./... && $(GO) run $(STATICCHECK) ./... && $(GO) test ./...) || exit; done
	$(LICENCES) -check THIRD-PARTY.md .

vulnerabilities:
	.ci/vulnerabilities $(GO) run $(GOVULNCHECK) ./...

# Only this command needs the modules of CoreDNS.
LICENCES = $(GO) run -C .ci/licences . -C '$(CURDIR)'
licences:
	$(LICENCES) -write THIRD-PARTY.md . $(DNSMODULE)

test-licences:
	$(LICENCES) -check THIRD-PARTY.md . $(DNSMODULE)

# The tests that depend most on the version of HAProxy. make test has just run them with the haproxy on PATH. If this is
# HAProxy 2.6, only the tests of reloads run with 2.6 again, because here they reload more often.
VERSIONTESTS = ./agentcheck ./haproxycfg ./haproxycfg/edge ./haproxycfg/deploy ./examples/terminator
# See .ci/again.
ci: export AGAIN := 3
ci: test-race lint test-rules demo e2e
	$(MAKE) haproxies
	$(MAKE) -j 2 --output-sync=target ci-oldest ci-newest
	$(MAKE) fuzz FUZZTIME=3s
	$(MAKE) bench BENCHTIME=1x BENCHSKIP='BenchmarkPick/nodes=5000/k=10/way=buraksezer' # its ring takes half a minute
	$(MAKE) bench-peers PEERFLAGS='-quick -peers nginx,nginx-half-close,haproxy,snirouter'
	$(MAKE) bench-peers PEERFLAGS='-quick -hellos -peers nginx,haproxy,snirouter'
	$(MAKE) bench-peers PEERFLAGS='-quick -scaling -peers nginx,haproxy,snirouter'
	$(MAKE) bench-peers PEERFLAGS='-quick -paired'
	$(MAKE) bench-quic QUICFLAGS=-quick

# Their tests wait more than they compute, so both versions run side by side.
ci-oldest:
	$(MAKE) test-versions VERSIONS=2.6 PACKAGES="$$(haproxy -v | grep -q 'version 2\.6\.' && echo ./haproxycfg/edge || echo $(VERSIONTESTS))"

ci-newest:
	$(MAKE) test-versions VERSIONS=newest PACKAGES='$(VERSIONTESTS) ./haproxycfg/frontproxy/... ./haproxycfg/runtimeapi ./agentcheck/drain'

# make ci repeats a failed test. The later parts repeat nothing: there each failure counts.
FULLPARTS = ci test-repeated test-oldest-go test-qemu test-other-haproxies test-coredns test-image test-dashboards test-pages test-coming-from test-nginx test-openssl e2e-newest e2e-long test-fuzz release test-reproducible test-licences fuzz-long bench-long bench-rounds
ci-full:
	@MAKE='$(MAKE)' .ci/full $(FULLPARTS)

fuzz-long:
	@GO='$(GO)' .ci/fuzz 10s

bench-long:
	$(MAKE) --no-print-directory bench BENCHTIME=200ms

bench-rounds: peers
	cd $(BENCHMODULE) && $(GO) run ./sniproxy -rounds 7

# .ci/install COMMANDS PACKAGES installs the packages if one of the commands is missing.
haproxy:
	@.ci/install haproxy haproxy

# The race detector needs a C compiler.
cc:
	@.ci/install "$$($(GO) env CC)" 'gcc libc6-dev'

# The tests of the SNI router start real clients. Some tests of HAProxy are in the language of varnishtest. The tests of
# systemd units need its tools, and no running systemd; chromium depends on the package systemd anyway.
TESTTOOLS = haproxy varnishtest curl openssl chromium systemd-analyze systemd-socket-activate
test-tools:
	@.ci/install '$(TESTTOOLS)' 'haproxy varnish curl openssl chromium systemd'

# A node of the end-to-end test needs network namespaces, and the kernel's packet filter for kube-proxy.
network:
	@.ci/install 'ip nft' 'iproute2 nftables'

peers: haproxy
	@.ci/install 'nginx sniproxy' 'nginx-light libnginx-mod-stream sniproxy'

# The nginx of other suites than that of the system: NGINX_DIR/SUITE/nginx.
export NGINX_DIR ?= $(HOME)/.cache/headgate/nginx
nginxes:
	@for suite in bookworm trixie testing; do \
		.ci/nginx $(NGINX_DIR)/$$suite $$suite || echo "nginx of $$suite: cannot be fetched"; \
	done

# Runs the example of the page about nginx with a real nginx too. make test runs it with snirouter only.
.PHONY: test-coming-from
test-coming-from: peers
	HEADGATE_PEERS=1 $(GO) test -count=1 -run ComingFrom ./examples/snirouter

# The nginx of Debian 12 does not read TLVs of PROXY headers, but the nginx of Debian 13 does.
.PHONY: test-nginx
test-nginx:
	@.ci/nginx $(NGINX_DIR)/trixie trixie
	HEADGATE_NGINX=$(NGINX_DIR)/trixie/nginx $(GO) test -count=1 -run NginxReadsTLVs ./sniproxy

# The OpenSSL of Debian 12 and 13 has no Encrypted ClientHello.
OPENSSL_DIR ?= $(HOME)/.cache/headgate/openssl
.PHONY: test-openssl
test-openssl:
	@.ci/openssl $(OPENSSL_DIR)
	HEADGATE_OPENSSL=$(OPENSSL_DIR)/openssl $(GO) test -count=1 -run ECHWithOpenSSL ./examples/snirouter

promtool:
	@.ci/install promtool prometheus
