// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package dispatcher

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/go-logr/logr"
	authentication "k8s.io/client-go/kubernetes/typed/authentication/v1"
	authorization "k8s.io/client-go/kubernetes/typed/authorization/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/garyclub/webhook-operator/internal/callers"
	"github.com/garyclub/webhook-operator/internal/control"
	"github.com/garyclub/webhook-operator/internal/handover"
	"github.com/garyclub/webhook-operator/internal/ingest"
	"github.com/garyclub/webhook-operator/internal/queue"
	"github.com/garyclub/webhook-operator/internal/version"
)

// askTimeout bounds a request to the API server.
const askTimeout = 10 * time.Second

// gateway is what a gateway has beside the parts of every dispatcher: callers that are judged, quotas of their
// namespaces, and a sink of what others hand over. A sidecar has none: nil.
type gateway struct {
	listen      string
	certificate *certificate
	callers     *callers.Callers
	quotas      *quotas
	sink        *handover.Sink
}

func (d *Dispatcher) makeGateway(ctx context.Context) (*gateway, error) {
	o, log := d.options, logr.FromContextOrDiscard(ctx)
	g := &gateway{listen: o.HandoverListen, certificate: &certificate{certFile: o.TLSCertFile, keyFile: o.TLSKeyFile,
		now: time.Now, log: log}}
	if _, err := g.certificate.GetCertificate(nil); err != nil {
		return nil, err
	}
	config, err := cluster(o.Kubeconfig)
	if err != nil {
		return nil, err
	}
	reviews, err := authentication.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("a client of the API server: %w", err)
	}
	access, err := authorization.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("a client of the API server: %w", err)
	}
	g.callers = callers.New(reviews.TokenReviews(), access.SubjectAccessReviews(), control.NewTokenPace(), nil)
	g.quotas = newQuotas(&d.options, d.queue.Held, d.clock.now, d.registry, log.WithName("quotas"))
	reviewer := control.NewTokenReviewer(reviews.TokenReviews(), nil)
	g.sink, err = handover.NewSink(handover.SinkOptions{
		Queue: quotaSink{sinkQueue{d.queue, d.endpoints}, g.quotas}, QueueID: d.queue.ID(), GetCertificate: g.certificate.GetCertificate,
		Authenticate: func(ctx context.Context, token string) (handover.Identity, error) {
			i, err := reviewer.Authenticate(ctx, token)
			return handover.Identity(i), err
		},
		Gateway: o.isGateway, Now: d.clock.now, Log: log.WithName("handover"), Registerer: d.registry,
	})
	return g, err
}

// cluster is the API server of the kubeconfig, or of the cluster that the pod runs in.
func cluster(kubeconfig string) (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if kubeconfig == "" {
		config, err = rest.InClusterConfig()
	}
	if err != nil {
		return nil, fmt.Errorf("the API server's address: %w", err)
	}
	config.QPS = -1 // callers are paced where they are judged
	config.Timeout = askTimeout
	config.UserAgent = "webhook-gateway/" + version.String()
	return config, nil
}

// isGateway says whether a caller has the service account of gateways.
func (o *Options) isGateway(i handover.Identity) bool {
	return i.Namespace == o.Namespace && i.ServiceAccount == o.GatewayServiceAccount
}

func (g *gateway) tls() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: g.certificate.GetCertificate}
}

// start takes what is handed over.
func (g *gateway) start(ctx context.Context, run func(func())) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", g.listen)
	if err != nil {
		return fmt.Errorf("listen for hand-overs: %w", err)
	}
	log := logr.FromContextOrDiscard(ctx)
	log.Info("taking deliveries over", "address", listener.Addr().String())
	run(func() {
		if err := g.sink.Serve(listener); err != nil {
			log.Error(err, "the hand-over service ended by itself")
		}
	})
	return nil
}

// refuse takes nothing over from now on.
func (g *gateway) refuse() {
	if g != nil {
		g.sink.Refuse()
	}
}

func (g *gateway) stop(ctx context.Context) {
	if g != nil {
		g.sink.Stop(ctx)
	}
}

// authenticate judges who posts events.
func (g *gateway) authenticate(r *http.Request, named string) (string, error) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || len(r.Header.Values("Authorization")) != 1 {
		return "", callers.ErrUnauthenticated
	}
	namespace, err := g.callers.Admit(r.Context(), strings.TrimSpace(token), named)
	switch {
	case errors.Is(err, callers.ErrForbidden):
		err = ingest.ErrForbidden
	case errors.Is(err, callers.ErrNoNamespace):
		err = ingest.ErrNoNamespace
	case errors.Is(err, callers.ErrUnavailable):
		err = ingest.ErrUndecided
	case err == nil:
		err = g.quotas.enter(r.Context(), namespace)
	}
	return namespace, err
}

// sinkQueue takes over what is for endpoints that are known here.
type sinkQueue struct {
	queue     queue.Queue
	endpoints *endpoints
}

var verdicts = map[queue.TookOver]handover.Verdict{
	queue.TookOverAdded: handover.Added, queue.TookOverPresent: handover.Present, queue.TookOverFailed: handover.Failed,
	queue.TookOverShareFull: handover.ShareFull,
}

func (q sinkQueue) TakeOver(ctx context.Context, parcels []handover.Parcel) ([]handover.Verdict, error) {
	snapshot := q.endpoints.Load()
	if snapshot == nil {
		return nil, handover.ErrNotReady
	}
	answer := make([]handover.Verdict, len(parcels))
	var known []queue.Parcel
	for i, p := range parcels {
		e := snapshot.Get(p.Delivery.Ref)
		if e == nil {
			answer[i] = handover.Unknown
			continue
		}
		// The UID is ours to say: counters go by it, and nobody else's are to be touched.
		p.Delivery.UID = e.UID
		known = append(known, queue.Parcel(p))
	}
	if len(known) == 0 {
		return answer, nil
	}
	took, err := q.queue.TakeOver(ctx, known)
	switch {
	case errors.Is(err, queue.ErrFull):
		return nil, handover.ErrFull
	case errors.Is(err, queue.ErrClosed):
		return nil, handover.ErrNotReady
	case err != nil:
		return nil, err
	}
	for i := range answer {
		if answer[i] != handover.Unknown {
			answer[i], took = verdicts[took[0]], took[1:]
		}
	}
	return answer, nil
}
