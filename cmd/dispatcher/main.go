// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// The dispatcher takes call events over loopback HTTP, keeps them on disk and delivers them, signed, over HTTPS.
package main

import (
	"context"
	"flag"
	"fmt"
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
	o := dispatcher.DefaultOptions()
	verbosity := 0
	bind(flag.CommandLine, &o, &verbosity)
	flag.Parse()
	if o.Namespace == "" {
		o.Namespace = namespaceOfPod(namespaceFile)
	}
	handler := slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: slog.Level(-verbosity)})
	log := logr.FromSlogHandler(handler)
	if err := o.Validate(); err != nil {
		fmt.Fprintln(os.Stderr, "dispatcher:", err)
		return 2
	}
	ctx, stop := signal.NotifyContext(logr.NewContext(context.Background(), log), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := dispatcher.Run(ctx, o); err != nil {
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

func bind(f *flag.FlagSet, o *dispatcher.Options, verbosity *int) {
	f.StringVar(&o.Namespace, "namespace", o.Namespace, "namespace of the pod, whose endpoints are served; by default the one in "+namespaceFile)
	f.StringVar(&o.Listen, "listen", o.Listen, "loopback address that takes events")
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
	f.IntVar(verbosity, "v", 0, "log verbosity; 1 logs each attempt")
}
