# The two commands of a newcomer are `make demo` and `make test`.

GO      ?= go
BIN     := bin
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS := -s -w -X main.version=$(VERSION)
SEEDS   ?= 10000
FROM    ?= 1
ROUNDS  ?= 100
APPS    := catalog notes sky sky-blue

.PHONY: build demo test lint bench fuzz sim chains clean

build: ## the binaries, and the observatory's three programs
	CGO_ENABLED=0 $(GO) build -ldflags '$(LDFLAGS)' -o $(BIN)/ ./cmd/orrery ./cmd/clip ./cmd/homeserver
	CGO_ENABLED=0 $(GO) build -ldflags '-s -w' -o examples/observatory/bin/ $(addprefix ./examples/observatory/,$(APPS))

demo: build ## the main job on real data; EXIT=1 stops after the story
	$(BIN)/orrery demo --dir var/demo $(if $(EXIT),--exit)

test: ## installs what is missing, then: build, vet, lint, unit, race, integration, browser, demo
	./scripts/test

lint: ## golangci-lint, built from tools/go.mod
	./scripts/lint

bench: ## prints the command of each benchmark; see bench/README.md
	@sed -n '/^|/p' bench/README.md

fuzz: ## every fuzz target for FUZZTIME (default 20s)
	./scripts/fuzz

sim: ## SEEDS schedules of each mode of a simulated chained store; prints how to replay those that fail
	$(GO) test ./fabric/chain/sim -count=1 -timeout 0 -v -run 'TestSeeds$$' -sim.seeds=$(SEEDS) -sim.from=$(FROM)

chains: build ## ROUNDS rounds of random failures of real nodes on a bad network, from seed FROM (root); what fails is kept in var/chains
	ORRERY_BIN=$(CURDIR)/$(BIN)/orrery ORRERY_TEST_ROUNDS=$(ROUNDS) ORRERY_TEST_SEED=$(FROM) ORRERY_TEST_KEEP=$(CURDIR)/var/chains \
		$(GO) test ./test -count=1 -timeout 0 -v -run 'TestChainsSurviveAnything$$'

clean:
	rm -rf $(BIN) .cache examples/observatory/bin
