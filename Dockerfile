# Two images from one build: --target manager, --target dispatcher.
FROM --platform=$BUILDPLATFORM golang:1.26.11 AS build
ARG TARGETOS TARGETARCH VERSION=
WORKDIR /src
# Modules first: they change less often than the sources.
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ENV CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH
RUN go build -trimpath -buildvcs=false -ldflags "-s -w -X github.com/garyclub/webhook-operator/internal/version.Version=${VERSION}" \
    -o /out/ ./cmd/manager ./cmd/dispatcher

# Nothing but a static binary and the CAs that receivers' certificates are checked against.
FROM scratch AS base
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
# Numeric, so that kubelet can check runAsNonRoot.
USER 65532:65532

FROM base AS manager
COPY --from=build /out/manager /manager
ENTRYPOINT ["/manager"]

FROM base AS dispatcher
COPY --from=build /out/dispatcher /dispatcher
ENTRYPOINT ["/dispatcher"]
