// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"errors"
	"fmt"
	"math"
	"net"
	"slices"

	"golang.org/x/time/rate"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/garyclub/webhook-operator/internal/egress"
	"github.com/garyclub/webhook-operator/internal/version"
)

// maxWriteBudget is more than any API server takes.
const maxWriteBudget = 10_000

// Options are the manager's settings.
type Options struct {
	// Namespace is the manager's own: its lease, its CA and its ledger are there.
	Namespace string
	// Namespaces restricts the manager to some namespaces; empty means all.
	Namespaces []string
	// ControlListen serves dispatchers under the names ControlHosts; MetricsListen and HealthListen serve kubelet and
	// Prometheus.
	ControlListen string
	ControlHosts  []string
	MetricsListen string
	HealthListen  string
	// LeaderElect is needed as soon as there are two replicas.
	LeaderElect bool
	// EgressAllow are ranges allowed although they are special; EgressProxy is a CONNECT proxy.
	EgressAllow egress.Prefixes
	EgressProxy string
	// WriteBudget bounds the writes to the API server, per second.
	WriteBudget float64
	// GatewayAddress is host:port of the gateway's hand-over service, which dispatchers are told; empty without a gateway.
	GatewayAddress string
	// GatewayServiceAccount is the one, in Namespace, that gateways are known by; GatewayHosts are further names in their
	// certificate.
	GatewayServiceAccount string
	GatewayHosts          []string
	InjectOptions
}

// DefaultOptions are the defaults of the flags.
func DefaultOptions() Options {
	return Options{Namespace: "webhook-system", ControlListen: ":9443", MetricsListen: ":8080", HealthListen: ":8081",
		LeaderElect: true, WriteBudget: 50, GatewayServiceAccount: gatewayAccount, InjectOptions: defaultInjectOptions()}
}

// Validate names each setting that cannot work, and the rule.
func (o *Options) Validate() error {
	var errs []error
	for _, n := range append([]string{o.Namespace}, o.Namespaces...) {
		if problems := validation.IsDNS1123Label(n); len(problems) > 0 {
			errs = append(errs, fmt.Errorf("--namespace, --namespaces: %q: %s", n, problems[0]))
		}
	}
	for _, listen := range []struct{ flag, address string }{
		{"--control-listen", o.ControlListen}, {"--metrics-listen", o.MetricsListen}, {"--health-listen", o.HealthListen},
	} {
		if _, _, err := net.SplitHostPort(listen.address); err != nil {
			errs = append(errs, fmt.Errorf("%s: must be host:port", listen.flag))
		}
	}
	if o.WriteBudget < 1 || o.WriteBudget > maxWriteBudget || math.IsNaN(o.WriteBudget) {
		errs = append(errs, fmt.Errorf("--write-budget: must be 1 to %d per second", maxWriteBudget))
	}
	if o.GatewayAddress != "" {
		if _, _, err := net.SplitHostPort(o.GatewayAddress); err != nil {
			errs = append(errs, errors.New("--gateway-address: must be host:port, or empty without a gateway"))
		}
	}
	out := o.egress()
	if err := out.Validate(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(append(errs, o.InjectOptions.validate()...)...)
}

// egress are the settings of the way out.
func (o *Options) egress() egress.Options {
	return egress.Options{Allow: o.EgressAllow, ProxyURL: o.EgressProxy, UserAgent: "webhook-operator/" + version.String()}
}

// hosts are the names in the certificate of the control service and of the injection.
func (o *Options) hosts() []string {
	control := "webhook-manager-control." + o.Namespace + ".svc"
	return append([]string{control, control + ".cluster.local", "webhook-manager-webhook." + o.Namespace + ".svc"}, o.ControlHosts...)
}

func (o *Options) serves(namespace string) bool {
	return len(o.Namespaces) == 0 || slices.Contains(o.Namespaces, namespace)
}

// The parts of the write budget that status writes ask for, below what their share of it guarantees: otherwise
// reconciliations would stand in line for it, and with them a changed Secret.
const (
	healthPart  = 0.10
	counterPart = 0.08
)

func (o *Options) statusPace(part float64) *rate.Limiter {
	perSecond := part * o.WriteBudget
	return rate.NewLimiter(rate.Limit(perSecond), max(1, int(5*perSecond)))
}
