// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/fixture/pki"
	"github.com/garyclub/webhook-operator/internal/fixture/system"
	"github.com/garyclub/webhook-operator/internal/sign"
)

const (
	caSecret  = "receiver-ca"
	keySecret = "signing-key"
	// queueBytes has room for a million events. An endpoint may hold a quarter of it.
	queueBytes = 6 << 30
	// writers is how many requests at once make and change objects.
	writers = 8
)

// stand is everything that the runs have in common.
type stand struct {
	dir  string
	out  io.Writer
	sys  *system.System
	recv *receiver
	ca   *pki.CA
	key  string
	said map[string]bool
}

func newStand(ctx context.Context, root, dir string, out io.Writer) (*stand, error) {
	s := &stand{dir: dir, out: out, ca: pki.NewCA("bench receiver"), key: sign.FormatKey(sign.NewKey()), said: map[string]bool{}}
	if err := os.WriteFile(s.caFile(), s.ca.PEM(), 0o600); err != nil {
		return nil, err
	}
	var err error
	if s.sys, err = system.Start(ctx, system.Options{Root: root, Dir: filepath.Join(dir, "system")}); err != nil {
		return nil, err
	}
	if err := s.sys.StartManager(ctx); err != nil {
		s.stop()
		return nil, err
	}
	if s.recv, err = newReceiver(ctx, filepath.Join(dir, "receiver"), s.ca); err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

func (s *stand) stop() {
	s.sys.Stop()
	if s.recv != nil {
		s.recv.close()
	}
}

func (s *stand) say(format string, args ...any) { fmt.Fprintf(s.out, format+"\n", args...) }

// sayOnce says what is the same in every run.
func (s *stand) sayOnce(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); !s.said[text] {
		s.said[text] = true
		s.say("!!! %s", text)
	}
}

func (s *stand) caFile() string { return filepath.Join(s.dir, "ca.crt") }

// declare makes a namespace with the endpoints of a load.
func (s *stand) declare(ctx context.Context, namespace string, l Load) error {
	if err := s.sys.Namespace(ctx, namespace); err != nil {
		return err
	}
	for name, data := range map[string]map[string]string{caSecret: {"ca.crt": string(s.ca.PEM())}, keySecret: {v1alpha1.KeySigningKey: s.key}} {
		secret := &corev1.Secret{StringData: data}
		secret.Namespace, secret.Name, secret.Labels = namespace, name, map[string]string{v1alpha1.LabelCredentials: "true"}
		if err := s.sys.Client.Create(ctx, secret); err != nil {
			return err
		}
	}
	return s.each(ctx, l, func(ctx context.Context, number int) error {
		return s.sys.Client.Create(ctx, s.object(namespace, l, number))
	})
}

// each has something done for each endpoint.
func (s *stand) each(ctx context.Context, l Load, do func(ctx context.Context, number int) error) error {
	all, within := errgroup.WithContext(ctx)
	all.SetLimit(writers)
	for number := range l.Endpoints() {
		all.Go(func() error { return do(within, number) })
	}
	return all.Wait()
}

func endpointName(number int) string { return fmt.Sprintf("e%05d", number) }

func (s *stand) object(namespace string, l Load, number int) *v1alpha1.WebhookEndpoint {
	o := &v1alpha1.WebhookEndpoint{Spec: v1alpha1.WebhookEndpointSpec{
		URL:     s.recv.url(l) + pathOf(number),
		Events:  []v1alpha1.EventType{v1alpha1.EventCallCompleted},
		Agents:  []string{agentOf(number / l.Fanout)},
		Suspend: l.Kind == Backlog || l.Kind == Restart,
		Signing: v1alpha1.SigningSpec{SecretRef: &v1alpha1.SecretReference{Name: keySecret}},
		TLS:     &v1alpha1.TLSSpec{CASecretRef: &v1alpha1.CASecretReference{Name: caSecret, Key: "ca.crt"}},
		Test:    v1alpha1.TestSpec{When: v1alpha1.TestOnRequest},
	}}
	o.Namespace, o.Name = namespace, endpointName(number)
	return o
}

// suspend suspends all endpoints, or releases them.
func (s *stand) suspend(ctx context.Context, namespace string, l Load, suspended bool) error {
	return s.each(ctx, l, func(ctx context.Context, number int) error {
		o := &v1alpha1.WebhookEndpoint{}
		o.Namespace, o.Name = namespace, endpointName(number)
		patch := fmt.Appendf(nil, `{"spec":{"suspend":%t}}`, suspended)
		return s.sys.Client.Patch(ctx, o, client.RawPatch("application/merge-patch+json", patch))
	})
}

// clear deletes the endpoints of a case, so that they cost the next one nothing.
func (s *stand) clear(ctx context.Context, namespace string) error {
	return s.sys.Client.DeleteAllOf(ctx, &v1alpha1.WebhookEndpoint{}, client.InNamespace(namespace))
}

// dispatcher starts one with an empty queue.
func (s *stand) dispatcher(ctx context.Context, namespace, pod string) (*system.Dispatcher, error) {
	d, err := s.sys.NewDispatcher(ctx, namespace, pod, "--queue-max-bytes="+strconv.Itoa(queueBytes))
	if err != nil {
		return nil, err
	}
	if err := d.Trust(ctx); err != nil {
		return nil, err
	}
	return d, d.Start(ctx)
}

// remove ends a dispatcher and frees its disk.
func remove(d *system.Dispatcher) error {
	d.Kill()
	return os.RemoveAll(d.QueueDir())
}

// drainTimeout bounds the settling of what has arrived.
const drainTimeout = time.Minute

// drained waits until the dispatcher has nothing left to deliver, and returns how many records the manager has not taken
// yet.
func drained(ctx context.Context, d *system.Dispatcher) (unrecorded float64, err error) {
	err = system.Eventually(ctx, drainTimeout, func() error {
		content, err := fetch(ctx, http.MethodGet, d.MetricsURL(), nil)
		if err != nil {
			return err
		}
		g, err := readGauges(content)
		if err != nil {
			return err
		}
		unrecorded = g[outboxRecords]
		return g.nothingLeft()
	})
	return unrecorded, err
}
