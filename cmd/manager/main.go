// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// The manager judges WebhookEndpoints, streams them to dispatchers, and writes what those report.
package main

import (
	"flag"
	"fmt"
	"io"
	stdlog "log"
	"log/slog"
	"os"
	"strings"

	"github.com/go-logr/logr"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/garyclub/webhook-operator/internal/manager"
)

func main() { os.Exit(run()) }

func run() int {
	o := manager.DefaultOptions()
	verbosity := 0
	bind(flag.CommandLine, &o, &verbosity) // --kubeconfig comes with controller-runtime
	flag.Parse()
	stdlog.SetOutput(io.Discard) // net/http tells by it what receivers send, in their words and as often as they like
	log := logr.FromSlogHandler(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: slog.Level(-verbosity)}))
	ctrl.SetLogger(log)
	if err := o.Validate(); err != nil {
		fmt.Fprintln(os.Stderr, "manager:", err)
		return 2
	}
	config, err := ctrl.GetConfig()
	if err != nil {
		fmt.Fprintln(os.Stderr, "manager: no cluster:", err)
		return 2
	}
	if err := manager.Run(logr.NewContext(ctrl.SetupSignalHandler(), log), config, o); err != nil {
		log.Error(err, "manager ended")
		return 1
	}
	return 0
}

func bind(f *flag.FlagSet, o *manager.Options, verbosity *int) {
	f.StringVar(&o.Namespace, "namespace", o.Namespace, "the manager's own namespace: its lease, CA and ledger are there")
	f.Func("namespaces", "namespaces that are served, separated by commas; may be repeated; all by default", func(value string) error {
		for name := range strings.SplitSeq(value, ",") {
			if name = strings.TrimSpace(name); name != "" {
				o.Namespaces = append(o.Namespaces, name)
			}
		}
		return nil
	})
	f.StringVar(&o.ControlListen, "control-listen", o.ControlListen, "address that serves dispatchers")
	f.Func("control-host", "a further name in the control service's certificate; may be repeated", func(value string) error {
		o.ControlHosts = append(o.ControlHosts, value)
		return nil
	})
	f.StringVar(&o.MetricsListen, "metrics-listen", o.MetricsListen, "address of /metrics")
	f.StringVar(&o.HealthListen, "health-listen", o.HealthListen, "address of /healthz and /readyz")
	f.BoolVar(&o.LeaderElect, "leader-elect", o.LeaderElect, "elect a leader; needed as soon as there are two replicas")
	f.Var(&o.EgressAllow, "egress-allow", "address range that is allowed although it is private or special, in CIDR form; may be repeated")
	f.StringVar(&o.EgressProxy, "egress-proxy", o.EgressProxy, "http://host:port of a CONNECT proxy with a fixed address; empty for direct connections")
	bindInjection(f, o)
	f.StringVar(&o.GatewayAddress, "gateway-address", o.GatewayAddress, "host:port of the gateway's hand-over service, which dispatchers are told; empty without a gateway")
	f.StringVar(&o.GatewayServiceAccount, "gateway-service-account", o.GatewayServiceAccount, "service account, in the manager's namespace, that gateways are known by")
	f.Func("gateway-host", "a further name in the gateway's certificate; may be repeated", func(value string) error {
		o.GatewayHosts = append(o.GatewayHosts, value)
		return nil
	})
	f.Float64Var(&o.WriteBudget, "write-budget", o.WriteBudget, "writes to the API server per second")
	f.IntVar(verbosity, "v", 0, "log verbosity")
}

func bindInjection(f *flag.FlagSet, o *manager.Options) {
	f.StringVar(&o.DispatcherImage, "dispatcher-image", o.DispatcherImage, "image of the dispatchers that are injected into labelled pods; empty for no injection")
	f.StringVar(&o.DispatcherPullPolicy, "dispatcher-pull-policy", o.DispatcherPullPolicy, "imagePullPolicy of injected dispatchers; empty for the API server's default")
	f.Func("dispatcher-arg", "a further flag of injected dispatchers, as in --max-in-flight=256; may be repeated; --egress-allow and --egress-proxy are passed on anyway", func(value string) error {
		o.DispatcherArgs = append(o.DispatcherArgs, value)
		return nil
	})
	f.StringVar(&o.WebhookListen, "webhook-listen", o.WebhookListen, "address that the API server calls for labelled pods")
	f.StringVar(&o.InjectCertificates, "inject-certificates", o.InjectCertificates, "\"own\" for a certificate of the manager's own CA, which it puts into the webhook configuration; or a folder with tls.crt and tls.key that somebody else keeps, such as cert-manager")
}
