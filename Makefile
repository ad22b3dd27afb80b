# make help lists what there is.
SHELL := /bin/bash
export CGO_ENABLED ?= 0
GO ?= go
FUZZTIME ?= 60s

.PHONY: help build build-ceph demo test check lint fuzz race crash sim soak-flips soak e2e-elsewhere soak-ceph bench bench-api bench-ceph bench-dr scale scale-zones setup clean

help: ## list these targets
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build ./kvol
	$(GO) build -trimpath -o kvol ./cmd/kvol

CEPH_TAGS ?= ceph,pacific
build-ceph: ## build ./kvol with librbd for shorter calls to Ceph (docs/ceph.md; needs gcc, librados-dev, librbd-dev)
	CGO_ENABLED=1 $(GO) build -trimpath -tags $(CEPH_TAGS) -o kvol ./cmd/kvol

demo: build ## three zones on this machine: write, replicate, kill one, recover, compare
	./kvol demo $(DEMOFLAGS)

setup: ## install the Debian packages that the tests use (needs root and apt; says so elsewhere)
	@test/setup.sh

test: setup ## every test: unit, end to end with real clients, the demo, short fuzzing, linters
	test/run.sh

lint: ## gofmt, go vet, staticcheck, the rules of tidy_test.go
	test/lint.sh

fuzz: ## each fuzz target for FUZZTIME (default 60s; a number of inputs as 10000x)
	test/fuzz.sh $(FUZZTIME)

race: ## the tests of the concurrent packages under the race detector (needs gcc)
	CGO_ENABLED=1 $(GO) test -race -short ./internal/...

CUTS ?= 100000
crash: ## CUTS simulated power cuts (default 100000) and every fault of longer histories; takes minutes
	KVOL_POWER_CUTS=$(CUTS) $(GO) test -count=1 -timeout 2h -v -run 'TestPowerCut|TestFaults' ./internal/driver/logstore

SEEDS ?= 100000
SEED ?= 1
sim: ## SEEDS simulated stories of replicating zones (default 100000), the first being SEED; takes an hour
	$(GO) test -count=1 -timeout 48h -v -run 'TestStories$$' ./internal/zone/simtest -seeds $(SEEDS) -seed $(SEED)

FLIPS ?= 1000
soak-flips: ## FLIPS planned failovers of a volume to and fro (default 1000), with writes between and equal hashes
	KVOL_FLIPS=$(FLIPS) $(GO) test -count=1 -timeout 2h -v -run 'TestFlips$$' ./internal/zone/zonetest

SOAK ?= 10m
soak: setup ## zones as processes, killed, stopped and cut off at random for SOAK (10m) under load, each byte checked
	SOAK=$(SOAK) $(GO) test -count=1 -timeout 48h -v -run 'TestSoak$$' ./test/e2e

e2e-elsewhere: setup ## the end-to-end tests (those of RUN: all) with zones on two Ceph clusters and catalogs in PostgreSQL
	KVOL_REQUIRE_TOOLS=1 KVOL_E2E_ELSEWHERE=1 KVOL_E2E_RUN='$(RUN)' $(GO) test -count=1 -timeout 45m -v ./test/e2e/elsewhere

FOR ?= 30m
soak-ceph: setup ## two zones as processes on two Ceph clusters: they, OSDs, monitors and the database killed and stopped, in an order from SEED (1), for FOR (30m)
	KVOL_STORM=$(FOR) KVOL_STORM_SEED=$(SEED) $(GO) test -count=1 -timeout 48h -v -run 'TestTwoClusters$$/Storm$$' ./test/ceph

VOLUMES ?= 1 100 1000
STREAM ?= 60s
bench-dr: build ## RPO, cost and speed of replication, each for STREAM (60s), drills, failback, recovery by size and of VOLUMES (1 100 1000) in one call
	KVOL_STREAM_BENCH=$(STREAM) $(GO) test -count=1 -timeout 1h -v -run 'TestStream' ./internal/zone/zonetest
	KVOL_BENCH_DRILL=30 $(GO) test -count=1 -timeout 1h -v -run 'TestBenchDrill' ./internal/zone/zonetest
	$(GO) test -count=1 -timeout 1h -v -run 'TestReturnedZoneIsSentOnlyTheDifference' ./internal/zone/zonetest
	for n in $(VOLUMES); do KVOL_RECOVER_VOLUMES=$$n \
		$(GO) test -count=1 -timeout 1h -v -run 'TestManyVolumesInOneCall' ./internal/zone/zonetest || exit 1; done
	$(GO) run ./test/bench -kvol ./kvol -only zones

SCALE ?= -volumes 1000000 -protected 10000
scale: ## a zone of a million volumes without data: what lists, jobs, places and replication cost there
	$(GO) run ./test/scale $(SCALE)

# The catalogs lie in memory: twenty zones have more than the one disk of this machine.
SCALE_ZONES ?= -zones 20 -each 200 -interval 1m -rpo 3m -watch 2m -ended 400 -waiting 400 -rounds 20
scale-zones: ## twenty zones without data that all replicate to each other, in one process: what that costs each of them
	GOTMPDIR=$(or $(TMPDIR),/tmp) TMPDIR=/dev/shm $(GO) run ./test/scale $(SCALE_ZONES)

bench: build setup ## speed and size as ratios against peers in the same run
	test/bench.sh

bench-ceph: setup ## replication and recovery between two Ceph clusters against rbd export-diff and rbd-mirror in the same run
	KVOL_BENCH_CEPH=1 $(GO) test -count=1 -timeout 1h -v -run 'TestBench$$' ./test/ceph

bench-api: build ## requests to the block storage API against the recorded figures of a real Cinder
	test/bench.sh -only api -rounds 3

clean: ## remove what was built
	rm -rf kvol bin
