// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
)

// redeliveryPath is the path in config/webhook.
const redeliveryPath = "/redelivery"

var redeliveryResource = metav1.GroupVersionResource{Group: v1alpha1.GroupVersion.Group, Version: v1alpha1.GroupVersion.Version, Resource: "redeliveries"}

// stamper writes into each order who gave it, as the API server knows him. A policy in config/crd asks for that name, so
// that it is a true one where the webhook is not installed too.
type stamper struct{}

// Handle is called at the creation of a Redelivery.
func (stamper) Handle(_ context.Context, request admission.Request) admission.Response {
	if request.Operation != admissionv1.Create || request.Resource != redeliveryResource || request.SubResource != "" {
		return admission.Allowed("") // somebody's configuration asks for more than config/webhook does
	}
	stamped, err := stamp(request.Object.Raw, request.UserInfo.Username)
	if errors.Is(err, errAnotherName) {
		return admission.Denied(err.Error())
	}
	if err != nil {
		return admission.Errored(http.StatusBadRequest, err)
	}
	return admission.PatchResponseFromRaw(request.Object.Raw, stamped)
}

// errAnotherName: to replace it would make the next apply of the same manifest a change of the order.
var errAnotherName = errors.New("spec.requestedBy must be the user who creates the object; leave it out, it is filled in")

// stamp changes nothing else: fields of a later version stay as they are.
func stamp(object []byte, user string) ([]byte, error) {
	u := &unstructured.Unstructured{}
	if err := json.Unmarshal(object, &u.Object); err != nil {
		return nil, fmt.Errorf("read the Redelivery: %w", err)
	}
	if said, _, _ := unstructured.NestedString(u.Object, "spec", "requestedBy"); said != "" && said != user {
		return nil, errAnotherName
	}
	if err := unstructured.SetNestedField(u.Object, user, "spec", "requestedBy"); err != nil {
		return nil, fmt.Errorf("write spec.requestedBy: %w", err)
	}
	return json.Marshal(u.Object)
}
