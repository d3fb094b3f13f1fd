# The commands that the project promises. Each works from a fresh clone, with
# Go and nothing else prepared; `make test` prepares the machine itself where
# it may (scripts/setup-test-host).
GO       ?= go
FUZZTIME ?= 10s
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)

AGENT_LDFLAGS := -s -w -buildid=
LDFLAGS       := -s -w -X main.version=$(VERSION)
# Every file that can change the agent; the embedding package is not one.
AGENT_SOURCES := $(shell find cmd/faas-agent guest image/pack -name '*.go' -not -name '*_test.go' -not -path 'guest/binary/*' 2>/dev/null) $(wildcard *.go) go.mod go.sum
AGENTS        := guest/binary/files/faas-agent-linux-amd64 guest/binary/files/faas-agent-linux-arm64
LINTER        := .cache/bin/golangci-lint

export CGO_ENABLED = 0
# Version stamping runs git, which refuses a checkout that another user owns.
export GOFLAGS := $(GOFLAGS) -buildvcs=false

.PHONY: build agent run test lint bench fuzz cross clean

build: agent
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/faas ./cmd/faas

# The guest agents for every platform that sandboxes run on, and their digests,
# which are there before them; embedded in faas.
agent: $(AGENTS)

guest/binary/files/faas-agent-linux-%: $(AGENT_SOURCES)
	GOOS=linux GOARCH=$* $(GO) build -trimpath -ldflags '$(AGENT_LDFLAGS)' -o .cache/agent-$*/faas-agent ./cmd/faas-agent
	cd .cache/agent-$* && { sha256sum faas-agent || shasum -a 256 faas-agent; } 2>/dev/null | cut -c1-64 >faas-agent.sha256
	mv .cache/agent-$*/faas-agent.sha256 $@.sha256
	mv .cache/agent-$*/faas-agent $@

# Starts a gateway, runs a program through it, shows what this machine can do.
run: build
	scripts/run

test: build
	scripts/test

lint: agent $(LINTER)
	$(LINTER) run ./...
	for script in scripts/* .ci/run; do bash -n "$$script" || exit 1; done
	scripts/check-sdk-types

$(LINTER): tools/go.mod tools/go.sum
	cd tools && $(GO) build -trimpath -ldflags '-s -w' -o ../$@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint

# Measures, and writes demos/benchmarks/results/latest.json.
bench: build
	scripts/bench

# Every fuzz test for FUZZTIME.
fuzz: agent
	scripts/fuzz $(FUZZTIME)

# Static binaries for linux, and proof that the tree builds and vets for the
# systems on which only the gateway, the CLI and the docker runtime run.
cross: agent
	for arch in amd64 arm64; do \
		GOOS=linux GOARCH=$$arch $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o dist/faas-linux-$$arch ./cmd/faas || exit 1; \
	done
	for target in darwin/arm64 windows/amd64; do \
		echo "build and vet for $$target"; \
		GOOS=$${target%/*} GOARCH=$${target#*/} $(GO) build ./... || exit 1; \
		GOOS=$${target%/*} GOARCH=$${target#*/} $(GO) vet ./... || exit 1; \
	done

clean:
	rm -rf bin dist .cache $(AGENTS) $(AGENTS:=.sha256)
