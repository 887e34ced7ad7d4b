SHELL := bash
FUZZTIME ?= 10s
COUNT ?= 6

golangci-lint := go tool -modfile=tools/golangci-lint.mod golangci-lint
benchstat := go tool -modfile=tools/benchstat.mod benchstat

.DEFAULT_GOAL := help

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build bin/thence
	go build -trimpath -o bin/thence ./cmd/thence

.PHONY: test
test: ## Run all tests
	go test ./...

.PHONY: test-race
test-race: ## Run the short tests under the race detector
	go test -race -short ./...

.PHONY: lint
lint: ## Run golangci-lint (the first run builds it)
	$(golangci-lint) run ./...

.PHONY: bench
bench: ## Run the benchmarks COUNT=6 times, into bin/bench.txt; OLD=file compares
	@mkdir -p bin
	set -o pipefail; go test ./... -run '^$$' -bench . -benchmem -count $(COUNT) | tee bin/bench.txt
	$(benchstat) $(OLD) bin/bench.txt

.PHONY: check
check: ## Run vet, lint and test
	go vet ./...
	$(MAKE) lint
	$(MAKE) test

.PHONY: generate
generate: ## Write what is generated again: Stripe's table, from the document in stripe-mock's module
	go generate ./...

.PHONY: kill-long
kill-long: ## Run the longer form of the kill test (half an hour at most)
	go test ./integration_test -run TestKill -count=1 -timeout 30m -v -args -long

HISTORIES ?= 100000
SEED ?= 1

.PHONY: simulate
simulate: ## Run HISTORIES=100000 simulated histories of the worker, from SEED=1
	go test ./worker -run '^TestSimulation$$' -count=1 -timeout 24h -v -args -histories $(HISTORIES) -seed $(SEED)

.PHONY: mutations
mutations: ## Plant each known mistake in the protocol, and see that the simulation catches it
	go test ./worker -run '^TestMutations$$' -count=1 -timeout 3h -v -args -mutations all

.PHONY: gauntlet
gauntlet: ## Hurt real processes in every way there is (long; root for power loss and partitions)
	go run ./integration_test/gauntlet -scale full -v

.PHONY: gauntlet-ci
gauntlet-ci: ## A middle-sized part of the gauntlet (four minutes)
	go run ./integration_test/gauntlet -scale ci -parallel 8

.PHONY: calls-long
calls-long: ## Run 10,000 calls at a time through one worker, and measure its memory
	go test ./integration_test -run TestTenThousandCalls -count=1 -timeout 15m -v -args -long

.PHONY: fuzz
fuzz: ## Run each fuzz target for FUZZTIME=10s
	@set -e -o pipefail; \
	{ grep -rHo --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' . || true; } | while IFS=: read -r file func; do \
		echo "$${func#func } in $$(dirname "$$file")"; \
		go test "$$(dirname "$$file")" -run '^$$' -fuzz "^$${func#func }\$$" -fuzztime $(FUZZTIME) </dev/null; \
	done

.PHONY: chart-quick
chart-quick: ## Check deploy/ with Helm's packages, in one process; minutes the first time (UPDATE=-update)
	go build -trimpath -o bin/thence ./cmd/thence
	cd deploy/check && go vet . && go test . -count=1 -skip '^TestHelm' -thence $(CURDIR)/bin/thence $(UPDATE)

.PHONY: chart
chart: chart-quick ## The same, and with the program helm, which is built first
	go build -modfile=tools/helm.mod -o bin/helm helm.sh/helm/v4/cmd/helm
	cd deploy/check && go test . -count=1 -run '^TestHelm' -helm $(CURDIR)/bin/helm

.PHONY: image
image: ## Build the image with ko, for both platforms, and look into it (builds ko)
	go build -modfile=tools/ko.mod -o bin/ko github.com/google/ko
	cd deploy/check && go vet ./image && go test ./image -count=1 -ko $(CURDIR)/bin/ko

# Kubernetes' programs tell their version to helm, which asks whether the chart is made for it.
kubernetes := 1.37.2
kubernetes-build := GOFLAGS=-p=1 nice go build -trimpath -ldflags "-s -w -X k8s.io/component-base/version.gitVersion=v$(kubernetes) \
	-X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=$(word 2,$(subst ., ,$(kubernetes)))"

.PHONY: cluster
cluster: ## Apply deploy/ to a control plane that is built for it (long; what nodes do is played)
	@mkdir -p bin/cluster
	cd deploy/cluster && $(kubernetes-build) -modfile=kubernetes.mod -o ../../bin/cluster/etcd go.etcd.io/etcd/server/v3
	cd deploy/cluster && $(kubernetes-build) -modfile=kubernetes.mod -o ../../bin/cluster/ \
		k8s.io/kubernetes/cmd/{kube-apiserver,kube-controller-manager,kube-scheduler,kubectl}
	cd deploy/cluster && $(kubernetes-build) -modfile=kwok.mod -o ../../bin/cluster/kwok sigs.k8s.io/kwok/cmd/kwok
	go build -modfile=tools/helm.mod -o bin/cluster/helm helm.sh/helm/v4/cmd/helm
	cd deploy/cluster && go vet . && go test . -count=1 -v -timeout 60m -bin $(CURDIR)/bin/cluster

.PHONY: alerts
alerts: ## Run the alerts on made-up series by promtool (the first run builds it, for minutes)
	go build -modfile=tools/promtool.mod -o bin/promtool github.com/prometheus/prometheus/cmd/promtool
	bin/promtool check rules deploy/helm/thence/files/alerts.yaml
	bin/promtool test rules deploy/check/rules/alerts.yaml deploy/check/rules/hpa.yaml

.PHONY: reproducible
reproducible: ## Build the image's binary in two folders, and compare
	deploy/reproducible.sh

.PHONY: tools
tools: ## Build the pinned tools into bin/
	go build -modfile=tools/golangci-lint.mod -o bin/golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	go build -modfile=tools/benchstat.mod -o bin/benchstat golang.org/x/perf/cmd/benchstat
	go build -modfile=tools/nats.mod -o bin/nats github.com/nats-io/natscli/nats
	go build -modfile=tools/stripe-mock.mod -o bin/stripe-mock github.com/stripe/stripe-mock

.PHONY: clean
clean: ## Remove what was built here
	rm -rf bin thence coverage.*
