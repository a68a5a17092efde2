// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// The dispatcher takes call events over loopback HTTP, keeps them on disk and delivers them, signed, over HTTPS. With
// --gateway it does so for all namespaces, and takes events over TLS.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	stdlog "log"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/go-logr/logr"

	"github.com/garyclub/webhook-operator/internal/dispatcher"
)

func main() { os.Exit(run()) }

func run() int {
	if len(os.Args) == 2 && os.Args[1] == "drain" {
		return drain(1, os.Stderr)
	}
	o := dispatcher.DefaultOptions()
	verbosity := 0
	bind(flag.CommandLine, &o, &verbosity)
	flag.Parse()
	if o.Namespace == "" {
		o.Namespace = namespaceOfPod(namespaceFile)
	}
	if o.Gateway && !given(flag.CommandLine, "listen") {
		o.Listen = dispatcher.GatewayListen
	}
	stdlog.SetOutput(io.Discard) // net/http tells by it what receivers send, in their words and as often as they like
	handler := slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: slog.Level(-verbosity)})
	log := logr.FromSlogHandler(handler)
	if err := o.Validate(); err != nil {
		fmt.Fprintln(os.Stderr, "dispatcher:", err)
		return 2
	}
	ctx, stop := signal.NotifyContext(logr.NewContext(context.Background(), log), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	// From now on: a signal that nobody listens to ends the process.
	drain := make(chan os.Signal, 1)
	signal.Notify(drain, syscall.SIGUSR1)
	if err := dispatcher.Run(ctx, o, drain); err != nil {
		log.Error(err, "dispatcher ended")
		return 1
	}
	return 0
}

// namespaceFile is where a kubelet writes the pod's namespace, with the service account's token.
const namespaceFile = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

// namespaceOfPod is the namespace that the file holds; empty when there is none.
func namespaceOfPod(path string) string {
	content, err := os.ReadFile(path)
	if err != nil {
		return "" // Validate says what to do about it
	}
	return strings.TrimSpace(string(content))
}

// given says whether the flag was set.
func given(f *flag.FlagSet, name string) bool {
	found := false
	f.Visit(func(set *flag.Flag) { found = found || set.Name == name })
	return found
}

func bind(f *flag.FlagSet, o *dispatcher.Options, verbosity *int) {
	f.StringVar(&o.Namespace, "namespace", o.Namespace, "namespace of the pod, whose endpoints are served; by default the one in "+namespaceFile)
	f.StringVar(&o.Listen, "listen", o.Listen, "loopback address that takes events; any address for a gateway, by default "+dispatcher.GatewayListen)
	f.StringVar(&o.HealthListen, "health-listen", o.HealthListen, "address of /healthz, /readyz and /metrics")
	f.StringVar(&o.QueueDir, "queue-dir", o.QueueDir, "folder of the queue; it must outlive the container")
	f.Int64Var(&o.QueueMaxBytes, "queue-max-bytes", o.QueueMaxBytes, "bytes of waiting events beyond which new ones are answered 503")
	f.Int64Var(&o.ReserveBytes, "queue-reserve-bytes", o.ReserveBytes, "free bytes of the disk below which new events are answered 503; 0 keeps nothing free")
	f.StringVar(&o.ManagerAddress, "manager-address", o.ManagerAddress, "host:port of the manager's control service")
	f.StringVar(&o.ManagerServerName, "manager-server-name", o.ManagerServerName, "name in the manager's certificate, when it is not the host of its address")
	f.StringVar(&o.CAFile, "manager-ca-file", o.CAFile, "PEM file with the manager's CA; read again at each connection")
	f.StringVar(&o.TokenFile, "token-file", o.TokenFile, "projected service account token of the audience webhooks.gary.club")
	f.Var(&o.EgressAllow, "egress-allow", "address range that is allowed although it is private or special, in CIDR form; may be repeated")
	f.StringVar(&o.EgressProxy, "egress-proxy", o.EgressProxy, "http://host:port of a CONNECT proxy with a fixed address; empty for direct connections")
	f.IntVar(&o.MaxInFlight, "max-in-flight", o.MaxInFlight, "attempts in flight over all endpoints")
	f.DurationVar(&o.DrainTimeout, "drain-timeout", o.DrainTimeout, "time after SIGTERM in which waiting deliveries still go out")
	f.BoolVar(&o.QueueOutlivesPod, "queue-outlives-pod", o.QueueOutlivesPod, "the queue's volume is there again for the next pod, so that what is left at the end is not lost")
	f.BoolVar(&o.Gateway, "gateway", o.Gateway, "serve all namespaces: take events over TLS from whoever may create webhookevents, and deliveries that other dispatchers hand over")
	f.StringVar(&o.HandoverListen, "handover-listen", o.HandoverListen, "address of a gateway that takes deliveries over")
	f.StringVar(&o.TLSCertFile, "tls-cert-file", o.TLSCertFile, "PEM file with a gateway's certificate; read again when it changes")
	f.StringVar(&o.TLSKeyFile, "tls-key-file", o.TLSKeyFile, "PEM file with the key of a gateway's certificate")
	f.StringVar(&o.Kubeconfig, "kubeconfig", o.Kubeconfig, "file that leads a gateway to the API server; empty inside a cluster")
	f.StringVar(&o.GatewayServiceAccount, "gateway-service-account", o.GatewayServiceAccount, "service account of gateways in this namespace: they hand over for all namespaces")
	f.Float64Var(&o.NamespaceShare, "namespace-share", o.NamespaceShare, "part of a gateway's queue that the deliveries of one namespace may hold, a quarter of it those of one endpoint; beyond it the namespace's events are answered 503")
	f.Float64Var(&o.NamespaceEventsPerSecond, "namespace-events-per-second", o.NamespaceEventsPerSecond, "events a second that one namespace may post at a gateway; beyond it they are answered 429; 0 for no limit")
	f.IntVar(&o.NamespaceBurst, "namespace-burst", o.NamespaceBurst, "events that one namespace may post at a gateway at once, when it has a limit")
	f.IntVar(verbosity, "v", 0, "log verbosity; 1 logs each attempt")
}
