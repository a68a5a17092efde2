// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"

	"github.com/go-logr/logr"
	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/webhook"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/garyclub/webhook-operator/internal/inject"
)

// injectPath is the path in config/webhook.
const injectPath = "/inject"

// injection serves the webhook on every replica: a pod may be created while there is no leader.
func (a *assembly) injection(ctx context.Context, _ *rest.Config) error {
	if !a.options.Injects() {
		logr.FromContextOrDiscard(ctx).Info("dispatchers are not injected: there is no --dispatcher-image")
		return nil
	}
	server := a.mgr.GetWebhookServer()
	server.Register(injectPath, &admission.Webhook{Handler: &injector{a.options.injectSettings()}})
	server.Register(redeliveryPath, &admission.Webhook{Handler: stamper{}})
	a.ready.injecting = server.StartedChecker()
	if !a.options.ownCertificates() {
		return nil
	}
	return (&caInjector{client: a.mgr.GetClient(), bundle: a.ca.CABundle}).SetupWithManager(a.mgr)
}

// webhookServer is made before the authority is: it asks for the certificate when it is called. It is nil, and none
// listens, when there is no injection.
func (a *assembly) webhookServer() (webhook.Server, error) {
	if !a.options.Injects() {
		return nil, nil //nolint:nilnil // see above
	}
	o := webhook.Options{TLSOpts: []func(*tls.Config){func(c *tls.Config) { c.MinVersion = tls.VersionTLS13 }}}
	var err error
	if o.Host, o.Port, err = splitListen(a.options.WebhookListen); err != nil {
		return nil, fmt.Errorf("listen for the injection: %w", err)
	}
	if a.options.ownCertificates() {
		o.TLSOpts = append(o.TLSOpts, func(c *tls.Config) { c.GetCertificate = a.ca.GetCertificate })
	} else {
		o.CertDir = a.options.InjectCertificates // the server watches it
	}
	return webhook.NewServer(o), nil
}

var podResource = metav1.GroupVersionResource{Version: "v1", Resource: "pods"}

// injector answers the API server. What becomes of a pod is decided in internal/inject.
type injector struct{ settings inject.Settings }

// Handle is called at the creation of a labelled pod, and once more when others changed it after us.
func (i *injector) Handle(ctx context.Context, request admission.Request) admission.Response {
	if request.Operation != admissionv1.Create || request.Resource != podResource || request.SubResource != "" {
		return admission.Allowed("") // somebody's configuration asks for more than config/webhook does
	}
	mutated, err := inject.Mutate(request.Object.Raw, request.Namespace, i.settings)
	if refusal, refused := errors.AsType[*inject.Refusal](err); refused {
		// The name is empty when the API server is to make one.
		logr.FromContextOrDiscard(ctx).Info("a pod was refused", "namespace", request.Namespace, "pod", request.Name, "cause", refusal.Error())
		return admission.Denied(refusal.Error())
	}
	if err != nil {
		return admission.Errored(http.StatusBadRequest, err)
	}
	return admission.PatchResponseFromRaw(request.Object.Raw, mutated)
}
