// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package prober

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/fixture/pki"
	"github.com/garyclub/webhook-operator/internal/fixture/system"
)

const (
	caSecret  = "receivers-ca"
	diskBytes = 512 << 20
	// queueBytes leaves room for dead letters, which get a tenth of it, and lets the queue's own limits come before the
	// disk's.
	queueBytes = 256 << 20
	// apiPatience bounds what is repeated until the API server is back.
	apiPatience = 3 * time.Minute
	settled     = time.Minute
)

// stand is everything that a run consists of.
type stand struct {
	dir  string
	out  io.Writer
	ca   *pki.CA
	sys  *system.System
	recv []*receiver
	disp []*dispatcher
	// names is nil, and dispatchers have no disks of their own, when this process may not mount.
	names *NameServer

	tally tally
	// locks keep faults of one family from hitting the same target at once.
	locksMu sync.Mutex
	locks   map[string]*sync.Mutex
}

// dispatcher is a dispatcher with its disk.
type dispatcher struct {
	*system.Dispatcher
	disk *disk
}

// newStand brings everything up, up to date and idle.
func newStand(ctx context.Context, root, dir string, out io.Writer) (*stand, error) {
	s := &stand{dir: dir, out: out, ca: pki.NewCA("receivers"), locks: map[string]*sync.Mutex{}, tally: newTally()}
	var err error
	if s.sys, err = system.Start(ctx, system.Options{Root: root, Dir: dir}); err != nil {
		return nil, err
	}
	for _, step := range []func(context.Context) error{s.startNameServer, s.sys.StartManager, s.startReceivers, s.declare, s.startDispatchers, s.upToDate} {
		if err := step(ctx); err != nil {
			s.stop()
			return nil, err
		}
	}
	return s, nil
}

func (s *stand) stop() {
	s.sys.Stop()
	for _, r := range s.recv {
		r.close()
	}
	for _, d := range s.disp {
		if d.disk != nil {
			d.disk.unmount()
		}
	}
	if s.names != nil {
		s.names.Close()
	}
}

func (s *stand) startNameServer(context.Context) (err error) {
	if !hasOwnMounts() {
		return nil
	}
	if s.names, err = StartNameServer(); err != nil {
		return err
	}
	return resolveBy(s.names.Address(), filepath.Join(s.dir, "resolv.conf"))
}

func (s *stand) startReceivers(ctx context.Context) error {
	for i, http1 := range receiverHTTP1 {
		r, err := newReceiver(ctx, i, filepath.Join(s.dir, "receivers", strconv.Itoa(i)), s.ca, http1)
		if err != nil {
			return err
		}
		s.recv = append(s.recv, r)
	}
	return nil
}

// declare makes the namespaces with their Secrets and endpoints.
func (s *stand) declare(ctx context.Context) error {
	for _, namespace := range namespaces {
		if err := s.sys.Namespace(ctx, namespace); err != nil {
			return err
		}
		if err := s.secret(ctx, namespace, caSecret, map[string]string{"ca.crt": string(s.ca.PEM())}); err != nil {
			return err
		}
	}
	for _, p := range places() {
		keys := s.recv[p.receiver].keys(p.path())
		if err := s.secret(ctx, p.namespace, keysSecret(p), map[string]string{v1alpha1.KeySigningKey: keys[0]}); err != nil {
			return err
		}
		if err := s.sys.Client.Create(ctx, s.object(p)); err != nil {
			return err
		}
	}
	return nil
}

func (s *stand) secret(ctx context.Context, namespace, name string, data map[string]string) error {
	secret := &corev1.Secret{StringData: data}
	secret.Namespace, secret.Name, secret.Labels = namespace, name, map[string]string{v1alpha1.LabelCredentials: "true"}
	return s.sys.Client.Create(ctx, secret)
}

func keysSecret(p place) string { return "keys-" + p.name }

func newSigningKey() string {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails: see crypto/rand
	return "whsec_" + base64.StdEncoding.EncodeToString(key)
}

// object is the endpoint as it is declared.
func (s *stand) object(p place) *v1alpha1.WebhookEndpoint {
	r := s.recv[p.receiver]
	host := "127.0.0.1"
	if s.names != nil {
		host = r.host()
	}
	o := &v1alpha1.WebhookEndpoint{Spec: v1alpha1.WebhookEndpointSpec{
		URL:            "https://" + host + ":" + strconv.Itoa(r.proxy.Port()) + p.path(),
		Events:         p.events,
		TimeoutSeconds: 3,
		Retry:          p.retry,
		MaxInFlight:    64,
		Signing:        v1alpha1.SigningSpec{SecretRef: &v1alpha1.SecretReference{Name: keysSecret(p)}},
		TLS:            &v1alpha1.TLSSpec{CASecretRef: &v1alpha1.CASecretReference{Name: caSecret, Key: "ca.crt"}},
		Test:           v1alpha1.TestSpec{When: v1alpha1.TestOnRequest},
		History:        v1alpha1.HistorySpec{Succeeded: 10, Failed: 50, TTLSecondsAfterFinished: 3600},
	}}
	o.Namespace, o.Name = p.namespace, p.name
	return o
}

func (s *stand) startDispatchers(ctx context.Context) error {
	pods := map[string]int{}
	for _, namespace := range dispatchers {
		pod := fmt.Sprintf("app-%d", pods[namespace])
		pods[namespace]++
		d, err := s.sys.NewDispatcher(ctx, namespace, pod, "--queue-max-bytes="+strconv.Itoa(queueBytes))
		if err != nil {
			return err
		}
		one := &dispatcher{Dispatcher: d}
		s.disp = append(s.disp, one)
		if err := s.mount(one); err != nil {
			return err
		}
		if err := d.Trust(ctx); err != nil {
			return err
		}
		if err := d.Start(ctx); err != nil {
			return err
		}
	}
	return nil
}

// mount gives the dispatcher's queue a disk of its own.
func (s *stand) mount(d *dispatcher) error {
	if !hasOwnMounts() {
		return nil
	}
	if err := os.MkdirAll(d.QueueDir(), 0o700); err != nil {
		return err
	}
	mounted, err := mountDisk(d.QueueDir(), diskBytes)
	if err != nil {
		return err
	}
	d.disk = &mounted
	return nil
}

// upToDate waits until every dispatcher has taken every endpoint.
func (s *stand) upToDate(ctx context.Context) error {
	want := map[string]int32{}
	for _, namespace := range dispatchers {
		want[namespace]++
	}
	return system.Eventually(ctx, settled, func() error {
		for _, p := range places() {
			o, err := s.get(ctx, p)
			if err != nil {
				return err
			}
			if d := o.Status.Dispatchers; d == nil || d.UpToDate != want[p.namespace] || o.Status.ObservedGeneration != o.Generation {
				return fmt.Errorf("endpoint %s: %+v, %+v", p.path(), d, o.Status.Conditions)
			}
		}
		return nil
	})
}

func (s *stand) get(ctx context.Context, p place) (*v1alpha1.WebhookEndpoint, error) {
	o := &v1alpha1.WebhookEndpoint{}
	return o, s.sys.Client.Get(ctx, client.ObjectKey{Namespace: p.namespace, Name: p.name}, o)
}

// patch changes the spec of an endpoint, whatever the API server does meanwhile.
func (s *stand) patch(ctx context.Context, p place, change func(*v1alpha1.WebhookEndpointSpec)) error {
	return s.insist(ctx, func(ctx context.Context) error {
		o, err := s.get(ctx, p)
		if err != nil {
			return err
		}
		base := o.DeepCopy()
		change(&o.Spec)
		return s.sys.Client.Patch(ctx, o, client.MergeFrom(base))
	})
}

// insist repeats a request until the API server has carried it out.
func (s *stand) insist(ctx context.Context, request func(context.Context) error) error {
	return system.Eventually(ctx, apiPatience, func() error {
		within, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		return request(within)
	})
}

// lock takes the lock of a target for a family of faults; the returned function gives it back.
func (s *stand) lock(family string, t Target) func() {
	l := s.lockOf(family, t)
	l.Lock()
	return l.Unlock
}

func (s *stand) lockOf(family string, t Target) *sync.Mutex {
	if t.Role == Etcd {
		t = Target{APIServer, 0} // one is not started while the other is away
	}
	s.locksMu.Lock()
	defer s.locksMu.Unlock()
	key := family + " " + t.String()
	if s.locks[key] == nil {
		s.locks[key] = &sync.Mutex{}
	}
	return s.locks[key]
}

var errNotHere = errors.New("endpoint is being deleted")

// recreate makes an endpoint that was deleted anew.
func (s *stand) recreate(ctx context.Context, p place, old string) error {
	return s.insist(ctx, func(ctx context.Context) error {
		err := s.sys.Client.Create(ctx, s.object(p))
		if !apierrors.IsAlreadyExists(err) {
			return err
		}
		// The old one, or the new one of a request that had no answer.
		o, err := s.get(ctx, p)
		if err == nil && (string(o.UID) == old || o.DeletionTimestamp != nil) {
			err = errNotHere
		}
		return err
	})
}
