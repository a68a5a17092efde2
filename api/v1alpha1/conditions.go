// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// GetConditions returns the conditions of the endpoint's status.
func (e *WebhookEndpoint) GetConditions() []metav1.Condition { return e.Status.Conditions }

// SetConditions replaces the conditions of the endpoint's status.
func (e *WebhookEndpoint) SetConditions(conditions []metav1.Condition) {
	e.Status.Conditions = conditions
}

// GetConditions returns the conditions of the delivery's status.
func (d *DeliveryAttempt) GetConditions() []metav1.Condition { return d.Status.Conditions }

// SetConditions replaces the conditions of the delivery's status.
func (d *DeliveryAttempt) SetConditions(conditions []metav1.Condition) {
	d.Status.Conditions = conditions
}
