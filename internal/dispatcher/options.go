// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package dispatcher

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/garyclub/webhook-operator/internal/egress"
	"github.com/garyclub/webhook-operator/internal/event"
	"github.com/garyclub/webhook-operator/internal/ingest"
	"github.com/garyclub/webhook-operator/internal/version"
)

// Options are the dispatcher's settings.
type Options struct {
	// Namespace is the pod's own: events are posted for it and its endpoints are served, but for a gateway.
	Namespace string
	// Listen is the address that takes events: loopback, but for a gateway; HealthListen serves health and metrics on the pod's address.
	Listen       string
	HealthListen string
	// QueueDir outlives the container. QueueMaxBytes bounds what waits; ReserveBytes is what its disk keeps free, 0 for
	// nothing.
	QueueDir      string
	QueueMaxBytes int64
	ReserveBytes  int64
	// ManagerAddress, ManagerServerName, CAFile and TokenFile lead to the manager's control service.
	ManagerAddress    string
	ManagerServerName string
	CAFile            string
	TokenFile         string
	// QueueOutlivesPod says that what is left at the end is not lost with the pod.
	QueueOutlivesPod bool
	// Gateway makes a gateway of it: it serves all namespaces, over TLS.
	Gateway bool
	// HandoverListen is where a gateway takes over from other dispatchers. TLSCertFile and TLSKeyFile are what it shows
	// there and to producers. Kubeconfig leads to the API server; empty means the cluster that the pod runs in.
	HandoverListen string
	TLSCertFile    string
	TLSKeyFile     string
	Kubeconfig     string
	// GatewayServiceAccount is the name of the service account that gateways have, in Namespace.
	GatewayServiceAccount string
	// NamespaceShare is the part of QueueMaxBytes that the deliveries of one namespace may hold in a gateway. A quarter of
	// that is for one endpoint, so that one that hangs does not fill its namespace's share.
	NamespaceShare float64
	// NamespaceEventsPerSecond and NamespaceBurst bound the events that one namespace posts at a gateway; 0 a second is no
	// limit.
	NamespaceEventsPerSecond float64
	NamespaceBurst           int
	// EgressAllow are ranges allowed although they are special; EgressProxy is a CONNECT proxy.
	EgressAllow egress.Prefixes
	EgressProxy string
	// MaxInFlight bounds the attempts under way over all endpoints.
	MaxInFlight int
	// DrainTimeout is how long waiting deliveries still go out after the end was asked for. The last report comes on top,
	// and both have to fit into the pod's grace period.
	DrainTimeout time.Duration
	// DeletionGrace is how long the deliveries of a deleted endpoint wait for an object of the same name.
	DeletionGrace time.Duration
}

// GatewayListen is where a gateway takes events, unless it is told otherwise.
const GatewayListen = ":8443"

// DefaultOptions are the defaults of the flags.
func DefaultOptions() Options {
	return Options{
		Listen:         "127.0.0.1:8075",
		HealthListen:   ":8076",
		QueueDir:       "/var/lib/webhooks/queue",
		QueueMaxBytes:  1 << 30,
		ReserveBytes:   64 << 20,
		ManagerAddress: "webhook-manager-control.webhook-system.svc:9443",
		CAFile:         "/var/run/webhooks/ca.crt",
		TokenFile:      "/var/run/webhooks/token",
		HandoverListen: ":9445",
		TLSCertFile:    "/var/run/webhook-gateway/tls.crt",
		TLSKeyFile:     "/var/run/webhook-gateway/tls.key",
		MaxInFlight:    1024,
		DrainTimeout:   20 * time.Second,
		DeletionGrace:  time.Minute,

		GatewayServiceAccount: "webhook-gateway",
		NamespaceShare:        0.25,
		NamespaceBurst:        5 * ingest.MaxBatchEvents,
	}
}

// Validate names each setting that cannot work, and the rule.
func (o *Options) Validate() error {
	var errs []error
	refuse := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if o.Namespace == "" {
		refuse("--namespace: is required where no service account's files are mounted: the pod's own")
	} else if problems := validation.IsDNS1123Label(o.Namespace); len(problems) > 0 {
		refuse("--namespace: %s", problems[0])
	}
	if o.Gateway {
		errs = append(errs, o.validateGateway()...)
	} else if !loopback(o.Listen) {
		// Whoever reaches this port can post events, and only the pod's own containers reach its loopback.
		refuse("--listen: must be a loopback address such as 127.0.0.1:8075, but for a gateway")
	}
	if _, _, err := net.SplitHostPort(o.HealthListen); err != nil {
		refuse("--health-listen: must be host:port")
	}
	if _, _, err := net.SplitHostPort(o.ManagerAddress); err != nil {
		refuse("--manager-address: must be host:port")
	}
	if o.QueueDir == "" {
		refuse("--queue-dir: must name a folder")
	}
	if o.QueueMaxBytes < 16<<20 {
		refuse("--queue-max-bytes: must be at least 16777216")
	}
	if o.ReserveBytes < 0 {
		refuse("--queue-reserve-bytes: must not be negative; 0 keeps nothing free")
	}
	if o.MaxInFlight < 2 || o.MaxInFlight > 65536 {
		refuse("--max-in-flight: must be 2 to 65536")
	}
	if o.DrainTimeout < 0 {
		refuse("--drain-timeout: must not be negative")
	}
	out := o.egress()
	if err := out.Validate(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (o *Options) validateGateway() (errs []error) {
	for _, listen := range []struct{ flag, address string }{{"--listen", o.Listen}, {"--handover-listen", o.HandoverListen}} {
		if _, _, err := net.SplitHostPort(listen.address); err != nil {
			errs = append(errs, fmt.Errorf("%s: must be host:port", listen.flag))
		}
	}
	if o.TLSCertFile == "" || o.TLSKeyFile == "" {
		errs = append(errs, errors.New("--tls-cert-file, --tls-key-file: a gateway needs both"))
	}
	if problems := validation.IsDNS1123Subdomain(o.GatewayServiceAccount); len(problems) > 0 {
		errs = append(errs, fmt.Errorf("--gateway-service-account: %s", problems[0]))
	}
	if !(o.NamespaceShare > 0 && o.NamespaceShare <= 1) { // which is what NaN is not, either
		errs = append(errs, errors.New("--namespace-share: must be more than 0 and at most 1"))
	}
	if o.NamespaceShare > 0 && o.endpointShare()*float64(o.QueueMaxBytes) < largestDelivery {
		errs = append(errs, fmt.Errorf("--namespace-share, --queue-max-bytes: a quarter of the share is for one endpoint and must hold "+
			"the largest event, %d bytes: their product must be at least %d", largestDelivery, 4*largestDelivery))
	}
	if !(o.NamespaceEventsPerSecond >= 0 && o.NamespaceEventsPerSecond <= maxEventsPerSecond) {
		errs = append(errs, errors.New("--namespace-events-per-second: must be 0, for no limit, to 1000000"))
	}
	if o.NamespaceBurst < ingest.MaxBatchEvents {
		errs = append(errs, fmt.Errorf("--namespace-burst: must be at least %d, the events of one batch", ingest.MaxBatchEvents))
	}
	return errs
}

// maxEventsPerSecond is more than any gateway takes.
const maxEventsPerSecond = 1_000_000

// largestDelivery is what a delivery of the largest event holds. An endpoint whose share is smaller would never get it.
const largestDelivery = event.MaxPayloadBytes + deliveryBytes

// namespaceShare is the bytes that the deliveries of one namespace may hold in a gateway.
func (o *Options) namespaceShare() int64 { return int64(o.NamespaceShare * float64(o.QueueMaxBytes)) }

// endpointShare is the part of the queue that the deliveries of one endpoint may hold; 0 is the queue's default.
func (o *Options) endpointShare() float64 {
	if o.Gateway {
		return o.NamespaceShare / 4
	}
	return 0
}

// maxPerNamespace keeps half of a gateway's attempts from any one namespace; 0 is no bound.
func (o *Options) maxPerNamespace() int {
	if o.Gateway {
		return max(o.MaxInFlight/2, 1)
	}
	return 0
}

// served is the namespace whose endpoints are served; empty means all.
func (o *Options) served() string {
	if o.Gateway {
		return ""
	}
	return o.Namespace
}

// egress are the settings of the way out.
func (o *Options) egress() egress.Options {
	return egress.Options{Allow: o.EgressAllow, ProxyURL: o.EgressProxy, UserAgent: "webhook-operator/" + version.String(),
		IdlePerHost: max(o.MaxInFlight, 0)}
}

// reserve is what the queue takes for ReserveBytes: there, 0 stands for its default.
func (o *Options) reserve() int64 {
	if o.ReserveBytes == 0 {
		return -1
	}
	return o.ReserveBytes
}

func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}
