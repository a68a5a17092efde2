// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
)

const (
	// gatewaySecret is mounted by gateways: their certificate, of the manager's CA, which dispatchers trust, and that CA,
	// since webhooks-ca is published only where there are endpoints.
	gatewaySecret = "webhook-gateway-tls"
	gatewayLife   = 30 * 24 * time.Hour
	// gatewayRefresh is how long a Secret that somebody deleted or changed goes unnoticed.
	gatewayRefresh = time.Minute
)

// gatewayHosts are the names in the gateway's certificate: the Service for producers, the headless one for hand-overs.
func (o *Options) gatewayHosts() []string {
	hosts := make([]string, 0, 4+len(o.GatewayHosts))
	for _, service := range []string{"webhook-gateway", "webhook-gateway-handover"} {
		name := service + "." + o.Namespace + ".svc"
		hosts = append(hosts, name, name+".cluster.local")
	}
	return append(hosts, o.GatewayHosts...)
}

// gateway keeps the gateway's certificate when there is a gateway.
func (a *assembly) gateway(context.Context, *rest.Config) error {
	if a.options.GatewayAddress == "" {
		return nil
	}
	g := &gatewayCertificate{client: a.ca.client, signer: a.ca.currentSigner, bundle: a.ca.CABundle, hosts: a.options.gatewayHosts(), now: time.Now,
		key: client.ObjectKey{Namespace: a.options.Namespace, Name: gatewaySecret}}
	return a.mgr.Add(leading{g.start})
}

func (a *authority) currentSigner() pair {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.signer
}

// gatewayCertificate writes a Secret on the leader alone.
type gatewayCertificate struct {
	client client.Client // uncached: the manager watches no Secrets but labelled ones
	key    client.ObjectKey
	signer func() pair
	bundle func() []byte
	hosts  []string
	now    func() time.Time
}

func (g *gatewayCertificate) start(ctx context.Context) error {
	ticker := time.NewTicker(gatewayRefresh)
	defer ticker.Stop()
	for {
		if err := g.refresh(ctx); err != nil && ctx.Err() == nil {
			// The one in use stays good for a third of its life; the next minute tries again.
			logr.FromContextOrDiscard(ctx).Error(err, "refresh of the gateway's certificate failed")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// refresh makes the certificate when there is none that is good.
func (g *gatewayCertificate) refresh(ctx context.Context) error {
	secret := &corev1.Secret{}
	err := g.client.Get(ctx, g.key, secret)
	missing := apierrors.IsNotFound(err)
	if err != nil && !missing {
		return fmt.Errorf("read the gateway's certificate: %w", err)
	}
	data, changed, err := g.content(secret.Data)
	if err != nil {
		return fmt.Errorf("make the gateway's certificate: %w", err)
	}
	if !changed {
		return nil
	}
	secret.Data = data
	if missing {
		secret.ObjectMeta = metav1.ObjectMeta{Namespace: g.key.Namespace, Name: g.key.Name,
			Labels: map[string]string{"app.kubernetes.io/managed-by": "webhook-operator"}}
		secret.Type = corev1.SecretTypeTLS
		err = g.client.Create(ctx, secret)
	} else {
		err = g.client.Update(ctx, secret)
	}
	if err != nil {
		return fmt.Errorf("store the gateway's certificate: %w", err)
	}
	logr.FromContextOrDiscard(ctx).Info("the gateway's certificate or CA has changed", "secret", g.key.Name)
	return nil
}

// content is what is to be stored in place of what is.
func (g *gatewayCertificate) content(stored map[string][]byte) (data map[string][]byte, changed bool, err error) {
	signer, bundle, now := g.signer(), g.bundle(), g.now()
	good := g.good(stored, signer, now)
	if good && bytes.Equal(stored[v1alpha1.KeyCA], bundle) {
		return stored, false, nil
	}
	data = map[string][]byte{corev1.TLSCertKey: stored[corev1.TLSCertKey], corev1.TLSPrivateKeyKey: stored[corev1.TLSPrivateKeyKey]}
	if !good {
		if data, err = makeGatewayPair(signer, g.hosts, now); err != nil {
			return nil, false, err
		}
	}
	data[v1alpha1.KeyCA] = bundle
	return data, true, nil
}

// good says whether what is stored is of the CA that signs, for our hosts, and in the first two thirds of its life.
func (g *gatewayCertificate) good(data map[string][]byte, signer pair, now time.Time) bool {
	stored, err := tls.X509KeyPair(data[corev1.TLSCertKey], data[corev1.TLSPrivateKeyKey])
	if err != nil || stored.Leaf == nil || signer.cert == nil {
		return false
	}
	leaf := stored.Leaf
	renewal := leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) * 2 / 3)
	return leaf.CheckSignatureFrom(signer.cert) == nil && now.Before(renewal) &&
		!slices.ContainsFunc(g.hosts, func(host string) bool { return leaf.VerifyHostname(host) != nil })
}

func makeGatewayPair(signer pair, hosts []string, now time.Time) (map[string][]byte, error) {
	made, err := signer.serve(hosts, now, gatewayLife)
	if err != nil {
		return nil, err
	}
	key, err := x509.MarshalPKCS8PrivateKey(made.PrivateKey)
	if err != nil {
		return nil, err
	}
	return map[string][]byte{
		corev1.TLSCertKey:       pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: made.Certificate[0]}),
		corev1.TLSPrivateKeyKey: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}),
	}, nil
}
