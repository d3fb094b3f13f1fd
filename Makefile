# The commands that the project promises. Each works from a fresh clone.
GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
AGENT_LDFLAGS := -s -w -buildid=
LDFLAGS := -s -w -X main.version=$(VERSION)
AGENT_SRC := $(shell find cmd/faas-agent guest -name '*.go' -not -name '*_test.go' 2>/dev/null) go.mod go.sum
export CGO_ENABLED = 0

.PHONY: build agent
build: agent
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/faas ./cmd/faas

agent: guest/binary/files/faas-agent-linux-amd64 guest/binary/files/faas-agent-linux-arm64

guest/binary/files/faas-agent-linux-%: $(AGENT_SRC)
	GOOS=linux GOARCH=$* $(GO) build -trimpath -ldflags '$(AGENT_LDFLAGS)' -o $@ ./cmd/faas-agent
