# Copyright The webhook-operator Authors.
# SPDX-License-Identifier: Apache-2.0

include hack/versions.env

SHELL := /usr/bin/env bash -o pipefail
.SHELLFLAGS := -ec
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

BIN := $(CURDIR)/bin
# The version is part of the name: a new pin is a new file.
CONTROLLER_GEN := $(BIN)/controller-gen-$(CONTROLLER_GEN_VERSION)
CRD_REF_DOCS := $(BIN)/crd-ref-docs-$(CRD_REF_DOCS_VERSION)
CYCLONEDX_GOMOD := $(BIN)/cyclonedx-gomod-$(CYCLONEDX_GOMOD_VERSION)
GOLANGCI_LINT := $(BIN)/golangci-lint-$(GOLANGCI_LINT_VERSION)
GOVULNCHECK := $(BIN)/govulncheck-$(GOVULNCHECK_VERSION)
HELM := $(BIN)/helm-$(HELM_VERSION)
OCI := $(BIN)/oci
PROTOC_GEN_GO := $(BIN)/protoc-gen-go-$(PROTOC_GEN_GO_VERSION)
PROTOC_GEN_GO_GRPC := $(BIN)/protoc-gen-go-grpc-$(PROTOC_GEN_GO_GRPC_VERSION)

# Set by the linker; empty means the module's own version.
VERSION ?=
LDFLAGS := -s -w -X github.com/garyclub/webhook-operator/internal/version.Version=$(VERSION)
# As config/ and the chart name them.
MANAGER_IMG ?= webhook-operator/manager:v0.1.0
DISPATCHER_IMG ?= webhook-operator/dispatcher:v0.1.0
CONTAINER_TOOL ?= docker
# The CAs of the images that are packed without a container tool.
CA_CERTIFICATES ?= /etc/ssl/certs/ca-certificates.crt

# Packages under test, and how long each may take.
PKGS ?= ./...
TEST_TIMEOUT ?= 40m
FUZZTIME ?= 60s
BENCH ?= .
BENCHTIME ?= 1s

##@ General

.PHONY: help
help: ## Show this help.
	@awk 'BEGIN { FS = ":.*## "; print "Usage: make <target>" } \
	  /^##@ / { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z0-9-]+:.*## / { printf "  %-22s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

##@ Generated files

# Where generated files lie. verify fails when something else, or something more, is there.
GENERATED := api/*/zz_generated.*.go internal/control/controlpb/*.pb.go internal/handover/handoverpb/*.pb.go config/crd/bases config/rbac/role.yaml charts/*/files docs/api
PROTO := internal/control/controlpb/control.proto internal/handover/handoverpb/handover.proto

.PHONY: generate
generate: $(CONTROLLER_GEN) $(PROTOC_GEN_GO) $(PROTOC_GEN_GO_GRPC) ## Generate deep copies and protobuf code.
	$(CONTROLLER_GEN) object:headerFile=hack/boilerplate.go.txt paths=./api/...
	go run -C hack/protogen . -root ../.. -plugin bin/$(notdir $(PROTOC_GEN_GO)) -plugin bin/$(notdir $(PROTOC_GEN_GO_GRPC)) $(PROTO)

.PHONY: manifests
manifests: $(CONTROLLER_GEN) ## Generate CRDs and the manager's role, and copy them into the chart.
	$(CONTROLLER_GEN) crd paths=./api/... output:crd:artifacts:config=config/crd/bases
	$(CONTROLLER_GEN) rbac:roleName=webhook-manager paths=./controllers/... paths=./internal/manager/... output:rbac:artifacts:config=config/rbac
	hack/chart.sh

.PHONY: api-docs
api-docs: $(CRD_REF_DOCS) ## Generate docs/api from the API's comments.
	@mkdir -p docs/api
	$(CRD_REF_DOCS) --source-path=api/v1alpha1 --config=hack/crd-ref-docs.yaml --renderer=markdown --output-path=docs/api/v1alpha1.md

##@ Checks

.PHONY: fmt
fmt: $(GOLANGCI_LINT) ## Format the code.
	$(GOLANGCI_LINT) fmt

.PHONY: vet
vet: ## Run go vet.
	go vet ./...

.PHONY: lint
lint: $(GOLANGCI_LINT) ## Run the linters.
	$(GOLANGCI_LINT) run

.PHONY: verify
verify: verify-generated verify-mod verify-lint-rules lint ## Check, writing nothing: generated files, go.mod, lint rules, lint.

.PHONY: verify-generated
verify-generated: $(CONTROLLER_GEN) $(PROTOC_GEN_GO) $(PROTOC_GEN_GO_GRPC) $(CRD_REF_DOCS) ## Check that generated files are up to date, with none left over.
	hack/verify-generated.sh $(foreach pattern,$(GENERATED),'$(pattern)')

.PHONY: verify-mod
verify-mod: ## Check that go.mod and go.sum are tidy.
	go mod tidy -diff
	go -C hack/protogen mod tidy -diff
	go -C hack/oci mod tidy -diff

.PHONY: verify-lint-rules
verify-lint-rules: $(GOLANGCI_LINT) ## Prove that an import against the direction fails the linter.
	GOLANGCI_LINT=$(GOLANGCI_LINT) hack/verify-imports.sh

.PHONY: verify-drift
verify-drift: ## Prove that verify fails on a hand-edited CRD (on a copy).
	hack/verify-drift.sh

##@ Supply chain

# What is linked is what counts: tools and what only tests need are not among it.
PROGRAMS := ./cmd/manager ./cmd/dispatcher

.PHONY: licences
licences: ## Write docs/licences.md: the licence of each module that is linked.
	go run ./hack/licences -write $(PROGRAMS)

.PHONY: verify-licences
verify-licences: ## Check that docs/licences.md is up to date, and that each licence goes with ours.
	go run ./hack/licences $(PROGRAMS)

.PHONY: verify-sums
verify-sums: ## Check that the modules in the module cache are those that go.sum names.
	go mod verify
	go -C hack/protogen mod verify
	go -C hack/oci mod verify

.PHONY: verify-vulnerabilities
verify-vulnerabilities: $(GOVULNCHECK) ## Check for known vulnerabilities, by the database of GOVULNDB; fails without one.
	GOVULNCHECK=$(GOVULNCHECK) hack/verify-vulnerabilities.sh

.PHONY: verify-reproducible
verify-reproducible: ## Prove that two builds give the same bytes, binaries and images. Some minutes.
	hack/verify-reproducible.sh

.PHONY: sbom
sbom: $(CYCLONEDX_GOMOD) ## Write a CycloneDX bill of materials for each binary into dist/.
	@mkdir -p dist
	CGO_ENABLED=0 GOOS=linux $(CYCLONEDX_GOMOD) app -json -noserial -std -main cmd/manager -output dist/manager.cdx.json .
	CGO_ENABLED=0 GOOS=linux $(CYCLONEDX_GOMOD) app -json -noserial -std -main cmd/dispatcher -output dist/dispatcher.cdx.json .

##@ Tests

# Found only when a target needs it: the first run may have to build it.
WITH_CONTROL_PLANE = assets=$$(hack/control-plane.sh) && KUBEBUILDER_ASSETS="$$assets"

.PHONY: test
test: build $(HELM) ## Run all tests, the black-box ones in test/e2e included.
	$(WITH_CONTROL_PLANE) go test $$(go list $(PKGS) | grep -v /test/prober) -count=1 -p 2 -timeout $(TEST_TIMEOUT)
	$(if $(filter ./...,$(PKGS)),$(PROBER))

# The prober takes all of a machine, so it is alone.
PROBER = $(WITH_CONTROL_PLANE) go test ./test/prober -v -count=1 -timeout $(TEST_TIMEOUT)

.PHONY: test-race
test-race: build $(HELM) ## Run all tests with the race detector.
	$(WITH_CONTROL_PLANE) CGO_ENABLED=1 go test -race $(PKGS) -count=1 -p 2 -timeout $(TEST_TIMEOUT)

.PHONY: test-oldest
test-oldest: ## Run the API's and the controllers' tests against the oldest supported Kubernetes.
	assets=$$(hack/control-plane.sh $(OLDEST_KUBERNETES_VERSION)) && KUBEBUILDER_ASSETS="$$assets" \
	  go test ./api/... ./controllers/... -count=1 -p 2 -timeout $(TEST_TIMEOUT)

.PHONY: e2e
e2e: build ## Run the black-box tests, then the prober; SEED=n repeats its schedule, E2E_LONG=1 is its long run. The last line is its account.
	$(WITH_CONTROL_PLANE) go test ./test/e2e/... -count=1 -timeout $(TEST_TIMEOUT)
	go test -c -o $(BIN)/prober.test ./test/prober
	$(WITH_CONTROL_PLANE) bash -c 'cd test/prober && exec $(BIN)/prober.test -test.v -test.timeout 90m'

.PHONY: e2e-node
e2e-node: $(OCI) ## Run the story on a real node, in a network namespace. Needs root and Linux; hack/node.sh deps installs the rest.
	hack/e2e-node.sh

.PHONY: fuzz
fuzz: ## Run every fuzz target for FUZZTIME (60s).
	FUZZTIME=$(FUZZTIME) hack/fuzz.sh

.PHONY: bench
bench: build ## Measure the dispatcher beside a bare loop; BENCH_CASES=a,b chooses, BENCH_QUICK=1 only shows that it works, BENCH_STRICT=1 fails on missed targets.
	go build -o $(BIN)/bench ./test/bench
	$(WITH_CONTROL_PLANE) $(BIN)/bench

.PHONY: bench-go
bench-go: build ## Run the Go benchmarks; BENCH and BENCHTIME narrow them.
	$(WITH_CONTROL_PLANE) go test $(PKGS) -run '^$$' -bench '$(BENCH)' -benchtime $(BENCHTIME) -benchmem -p 1 -timeout 60m

.PHONY: demo
demo: build ## See an event delivered, on a control plane of its own.
	go build -o $(BIN)/demo ./hack/demo
	$(WITH_CONTROL_PLANE) $(BIN)/demo

##@ Build and deploy

.PHONY: build
build: ## Build bin/manager and bin/dispatcher.
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)' -o $(BIN)/ ./cmd/manager ./cmd/dispatcher

.PHONY: docker-build
docker-build: ## Build both images.
	$(CONTAINER_TOOL) build --target manager --build-arg VERSION=$(VERSION) -t $(MANAGER_IMG) .
	$(CONTAINER_TOOL) build --target dispatcher --build-arg VERSION=$(VERSION) -t $(DISPATCHER_IMG) .

.PHONY: $(OCI)
$(OCI):
	@GOFLAGS= GOWORK=off go -C hack/oci build -buildvcs=false -o $@ .

.PHONY: oci
oci: build $(OCI) ## Pack both images as OCI archives into dist/, without a container tool.
	@mkdir -p dist
	$(OCI) -name $(MANAGER_IMG) -user 65532:65532 -ca-certificates $(CA_CERTIFICATES) -out dist/manager.tar $(BIN)/manager
	$(OCI) -name $(DISPATCHER_IMG) -user 65532:65532 -ca-certificates $(CA_CERTIFICATES) -out dist/dispatcher.tar $(BIN)/dispatcher
	@ls -l dist/*.tar

# The user's kubectl, or the one that came with the test control plane. KUBECONFIG says which cluster.
KUBECTL ?= $(shell command -v kubectl || echo "$$(hack/control-plane.sh)/kubectl")

.PHONY: install
install: ## Install the CRDs into the cluster of the current kubeconfig.
	$(KUBECTL) apply --server-side -f config/crd/bases

.PHONY: uninstall
uninstall: ## Remove the CRDs, and with them every object of ours.
	$(KUBECTL) delete --ignore-not-found -f config/crd/bases

.PHONY: deploy
deploy: ## Deploy the manager with its CRDs and roles.
	$(KUBECTL) apply --server-side -k config/default

.PHONY: undeploy
undeploy: ## Remove what deploy made, but the CRDs: uninstall does that.
	$(KUBECTL) delete --ignore-not-found -k config/operator

##@ Tools

.PHONY: tools
tools: $(CONTROLLER_GEN) $(PROTOC_GEN_GO) $(PROTOC_GEN_GO_GRPC) $(CRD_REF_DOCS) $(GOLANGCI_LINT) $(HELM) $(GOVULNCHECK) $(CYCLONEDX_GOMOD) ## Install the pinned tools into bin/.

# go-install-tool FILE PACKAGE@VERSION: made aside and renamed, so that an install that was interrupted leaves nothing
# that looks complete.
define go-install-tool
$(1):
	@echo "installing $(notdir $(1))"
	@mkdir -p $(1).tmp
	@GOBIN=$(1).tmp GOFLAGS= GOWORK=off go install $(2)
	@mv $(1).tmp/* $(1) && rmdir $(1).tmp
endef

$(eval $(call go-install-tool,$(CONTROLLER_GEN),sigs.k8s.io/controller-tools/cmd/controller-gen@$(CONTROLLER_GEN_VERSION)))
$(eval $(call go-install-tool,$(CRD_REF_DOCS),github.com/elastic/crd-ref-docs@$(CRD_REF_DOCS_VERSION)))
$(eval $(call go-install-tool,$(CYCLONEDX_GOMOD),github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@$(CYCLONEDX_GOMOD_VERSION)))
$(eval $(call go-install-tool,$(GOVULNCHECK),golang.org/x/vuln/cmd/govulncheck@$(GOVULNCHECK_VERSION)))
$(eval $(call go-install-tool,$(GOLANGCI_LINT),github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION)))
$(eval $(call go-install-tool,$(HELM),helm.sh/helm/v4/cmd/helm@$(HELM_VERSION)))
$(eval $(call go-install-tool,$(PROTOC_GEN_GO),google.golang.org/protobuf/cmd/protoc-gen-go@$(PROTOC_GEN_GO_VERSION)))
$(eval $(call go-install-tool,$(PROTOC_GEN_GO_GRPC),google.golang.org/grpc/cmd/protoc-gen-go-grpc@$(PROTOC_GEN_GO_GRPC_VERSION)))
