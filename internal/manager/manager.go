// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package manager assembles the operator: the controllers, the control service, the recorder with its budget, and the CA
// that dispatchers trust.
package manager

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	authentication "k8s.io/client-go/kubernetes/typed/authentication/v1"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/controllers"
	"github.com/garyclub/webhook-operator/internal/control"
	"github.com/garyclub/webhook-operator/internal/egress"
	"github.com/garyclub/webhook-operator/internal/endpoint"
	"github.com/garyclub/webhook-operator/internal/record"
	"github.com/garyclub/webhook-operator/internal/version"
)

// +kubebuilder:rbac:groups=authentication.k8s.io,resources=tokenreviews,verbs=create
// +kubebuilder:rbac:groups=webhooks.gary.club,resources=deliveryattempts,verbs=get;list;watch;create;delete
// +kubebuilder:rbac:groups=webhooks.gary.club,resources=deliveryattempts/status,verbs=update
// +kubebuilder:rbac:groups=coordination.k8s.io,resources=leases,namespace=webhook-system,verbs=get;create;update
// +kubebuilder:rbac:groups="",resources=secrets,namespace=webhook-system,verbs=get;create;update
// +kubebuilder:rbac:groups="",resources=configmaps,namespace=webhook-system,verbs=get;list;create;update;delete
// +kubebuilder:rbac:groups="",resources=events,namespace=webhook-system,verbs=create;patch

// changedBacklog bounds the endpoints that wait to be looked at again because of news from outside the API server.
const changedBacklog = 16384

// assembly is the operator's parts while they are put together.
type assembly struct {
	options  Options
	mgr      manager.Manager
	metrics  *record.Metrics
	budget   *record.Budget
	recorder *record.Recorder
	ledger   *record.Ledger
	lost     *record.Losses
	ca       *authority
	server   *control.Server
	registry *endpoint.Registry
	changed  chan event.GenericEvent
	ready    readiness
}

// Run runs the operator until ctx ends.
func Run(ctx context.Context, config *rest.Config, o Options) error {
	a := &assembly{options: o, registry: endpoint.NewRegistry(), changed: make(chan event.GenericEvent, changedBacklog)}
	for _, step := range []func(context.Context, *rest.Config) error{a.base, a.authority, a.records, a.control, a.gateway, a.losses, a.controllers, a.injection} {
		if err := step(ctx, config); err != nil {
			return err
		}
	}
	logr.FromContextOrDiscard(ctx).Info("manager is starting", "version", version.String())
	return a.mgr.Start(ctx)
}

// base makes the controller-runtime manager. Every client of it writes through the budget.
func (a *assembly) base(_ context.Context, config *rest.Config) error {
	o := a.options
	var err error
	a.metrics = record.NewMetrics(metrics.Registry)
	if a.budget, err = record.NewBudget(record.BudgetOptions{Rate: o.WriteBudget, Metrics: a.metrics}); err != nil {
		return err
	}
	config.QPS = -1 // the budget paces writes; reads come from the cache
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return a.budget.Wrap(next) })
	config.UserAgent = "webhook-operator/" + version.String()
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		return err
	}
	webhooks, err := a.webhookServer()
	if err != nil {
		return err
	}
	a.mgr, err = ctrl.NewManager(config, ctrl.Options{
		Scheme: scheme, Cache: a.cacheOptions(), WebhookServer: webhooks,
		Metrics: metricsserver.Options{BindAddress: o.MetricsListen}, HealthProbeBindAddress: o.HealthListen,
		LeaderElection: o.LeaderElect, LeaderElectionID: "webhook-operator", LeaderElectionNamespace: o.Namespace,
		LeaderElectionReleaseOnCancel: true,
	})
	if err != nil {
		return fmt.Errorf("make the manager: %w", err)
	}
	return errors.Join(a.mgr.AddHealthzCheck("ping", healthz.Ping), a.mgr.AddReadyzCheck("working", a.ready.check),
		a.mgr.Add(everywhere{a.awaitCache}))
}

func (a *assembly) authority(ctx context.Context, config *rest.Config) error {
	uncached, err := client.New(config, client.Options{Scheme: a.mgr.GetScheme()})
	if err != nil {
		return err
	}
	a.ca = &authority{client: uncached, hosts: a.options.hosts(), now: time.Now,
		key: client.ObjectKey{Namespace: a.options.Namespace, Name: "webhook-control-ca"}}
	if err := a.ca.Refresh(ctx); err != nil {
		return err
	}
	return a.mgr.Add(a.ca)
}

func (a *assembly) control(ctx context.Context, config *rest.Config) error {
	reviews, err := authentication.NewForConfig(config)
	if err != nil {
		return err
	}
	a.server, err = control.NewServer(control.ServerOptions{Registry: a.registry, Sink: sink{a.recorder, a.ledger},
		Gateway: a.options.isGateway, GatewayAddress: a.options.GatewayAddress,
		Authenticator: control.NewTokenReviewer(reviews.TokenReviews(), time.Now), GetCertificate: a.ca.GetCertificate,
		Serves: a.options.serves, OnChange: a.namespaceChanged, Log: logr.FromContextOrDiscard(ctx).WithName("control"), Registerer: metrics.Registry})
	if err != nil {
		return err
	}
	return errors.Join(a.mgr.Add(everywhere{a.serve}), a.mgr.Add(leading{a.lead}))
}

// serve listens on every replica; all but the leader answer that they are not it.
func (a *assembly) serve(ctx context.Context) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", a.options.ControlListen)
	if err != nil {
		return fmt.Errorf("listen for dispatchers: %w", err)
	}
	a.ready.listening.Store(true)
	return a.server.Serve(ctx, listener)
}

// lead serves dispatchers for as long as this replica leads.
func (a *assembly) lead(ctx context.Context) error {
	a.server.Serving(true)
	defer a.server.Serving(false)
	<-ctx.Done()
	return nil
}

func (a *assembly) controllers(ctx context.Context, _ *rest.Config) error {
	out := a.options.egress()
	if err := out.Validate(); err != nil {
		return err
	}
	prober := controllers.NewProber(egress.New(out), a.changed)
	barrier := &controllers.Barrier{Registry: a.registry, Complete: a.registry.Complete}
	reconciler := &controllers.WebhookEndpointReconciler{
		Client: a.mgr.GetClient(), Live: a.mgr.GetAPIReader(), Events: a.mgr.GetEventRecorder("webhook-operator"),
		Options: controllers.Options{Registry: barrier, Dispatchers: a.server, Counters: counters{a.ledger}, Recorder: a.recorder,
			Prober: prober, HashKey: a.ca.HashKey(), Now: time.Now, WriteContext: statusShare,
			StatusWrites: a.options.statusPace(healthPart), CounterWrites: a.options.statusPace(counterPart), Changed: source.Channel(a.changed, &handler.EnqueueRequestForObject{})},
	}
	open := func(ctx context.Context) error { return barrier.Open(ctx, a.mgr.GetClient()) }
	//nolint:contextcheck // an index is registered; nothing is asked
	return errors.Join(a.mgr.Add(leading{prober.Start}), a.mgr.Add(leading{open}), reconciler.SetupWithManager(a.mgr),
		(&controllers.CAPublisher{Client: a.mgr.GetClient(), Bundle: a.ca.CABundle}).SetupWithManager(a.mgr),
		(&controllers.PodReconciler{Client: a.mgr.GetClient(), Events: a.mgr.GetEventRecorder("webhook-operator"), Connections: a.server,
			Version: version.String()}).SetupWithManager(a.mgr),
		(&controllers.RedeliveryReconciler{Client: a.mgr.GetClient(), Events: a.mgr.GetEventRecorder("webhook-operator"), Orders: a.server,
			Queues: a.lost, InForce: a.inForce, WriteContext: statusShare, DeleteContext: deleteShare}).SetupWithManager(a.mgr))
}

// namespaceChanged asks for a look at the endpoints whose dispatchers came, went or took something; those of all
// namespaces when it is empty.
func (a *assembly) namespaceChanged(namespace string) {
	view := a.registry.ViewAll
	if namespace != "" {
		view = func() ([]*endpoint.Endpoint, bool, <-chan struct{}) { return a.registry.View(namespace) }
	}
	list, _, _ := view()
	for _, p := range list {
		a.endpointChanged(p.Ref)
	}
}

// inForce is controllers.InForce.
func (a *assembly) inForce(ref endpoint.Ref, uid string, generation int64) bool {
	p := a.registry.Get(ref)
	if p == nil || p.UID != uid || p.Generation < generation {
		return false
	}
	connected, upToDate := a.server.Taken(ref.Namespace, uid, p.Revision)
	return connected == upToDate
}

// endpointChanged asks for a look. When the backlog is full the hourly inspection looks anyway.
func (a *assembly) endpointChanged(ref endpoint.Ref) {
	object := &v1alpha1.WebhookEndpoint{}
	object.Namespace, object.Name = ref.Namespace, ref.Name
	select {
	case a.changed <- event.GenericEvent{Object: object}:
	default:
	}
}

// leading runs on the leader alone, everywhere on every replica.
type leading struct{ run func(context.Context) error }

func (r leading) Start(ctx context.Context) error { return r.run(ctx) }

type everywhere struct{ run func(context.Context) error }

func (r everywhere) Start(ctx context.Context) error { return r.run(ctx) }

func (r everywhere) NeedLeaderElection() bool { return false }
