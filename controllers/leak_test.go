// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/conditions"
)

// watch sees every status that is written in a story and holds it against the rules of all statuses; at the story's end,
// when the manager has stopped, nothing secret may be found anywhere.
func (s *stand) watch() {
	s.t.Helper()
	seen, err := s.client.Watch(context.Background(), &v1alpha1.WebhookEndpointList{}, client.InNamespace(s.namespace))
	s.Expect(err).NotTo(HaveOccurred())
	var statuses []string
	done := make(chan struct{})
	go func() {
		defer close(done)
		for e := range seen.ResultChan() {
			if o, ok := e.Object.(*v1alpha1.WebhookEndpoint); ok {
				for _, wrong := range broken(o) {
					s.t.Errorf("%s: %s in %+v", o.Name, wrong, o.Status.Conditions)
				}
				text, _ := json.Marshal(o.Status)
				statuses = append(statuses, string(text))
			}
		}
	}()
	s.t.Cleanup(func() {
		seen.Stop()
		<-done
		s.leaks("statuses", strings.Join(statuses, "\n"))
		s.leaks("Events", s.events())
		s.leaks("logs", s.logs.text())
		s.leaks("records", fmt.Sprintf("%+v", s.records.all()))
		if s.metrics != nil {
			families, _ := s.metrics.Gather()
			s.leaks("metrics", fmt.Sprint(families))
		}
	})
}

// broken names the rules that a status breaks, whatever its story.
func broken(o *v1alpha1.WebhookEndpoint) (rules []string) {
	list := o.Status.Conditions
	ready := conditions.Get(list, v1alpha1.ConditionReady)
	reconciling, stalled := conditions.Get(list, v1alpha1.ConditionReconciling), conditions.Get(list, v1alpha1.ConditionStalled)
	if reconciling.Status != "" && stalled.Status != "" {
		rules = append(rules, "Reconciling and Stalled")
	}
	if ready.ObservedGeneration != o.Status.ObservedGeneration {
		rules = append(rules, "Ready is about another generation than the status")
	}
	if ready.Status == metav1.ConditionTrue && reconciling.Status+stalled.Status != "" {
		rules = append(rules, "Ready, and Reconciling or Stalled")
	}
	if ready.Status == metav1.ConditionFalse && reconciling.Reason+stalled.Reason != ready.Reason {
		rules = append(rules, "not Ready, and neither Reconciling nor Stalled for its reason")
	}
	for _, kind := range []string{v1alpha1.ConditionAccepted, v1alpha1.ConditionSigningKeyReady} {
		if c := conditions.Get(list, kind); ready.Status == metav1.ConditionTrue && (c.Status != metav1.ConditionTrue || c.ObservedGeneration != ready.ObservedGeneration) {
			rules = append(rules, "Ready without "+kind)
		}
	}
	return rules
}

// leaks finds what must not be in a text: what the endpoints of the stories keep secret, and each signing key that is or was used.
func (s *stand) leaks(what, text string) {
	s.t.Helper()
	hush := s.hush
	secrets := &corev1.SecretList{}
	if err := s.client.List(context.Background(), secrets, client.InNamespace(s.namespace)); err != nil {
		s.t.Error(err)
	}
	for i := range secrets.Items {
		for _, entry := range []string{v1alpha1.KeySigningKey, v1alpha1.KeyPreviousSigningKey} {
			if key := strings.TrimPrefix(string(secrets.Items[i].Data[entry]), "whsec_"); len(key) > 16 {
				hush = append(hush, key)
			}
		}
	}
	for _, secret := range hush {
		if before, _, found := strings.Cut(text, secret); found {
			line := before[strings.LastIndexByte(before, '\n')+1:]
			s.t.Errorf("%s contain %q after %s", what, secret, line[:min(400, len(line))])
		}
	}
}

// events are the texts of the namespace's Kubernetes Events.
func (s *stand) events() string {
	list := &eventsv1.EventList{}
	if err := s.client.List(context.Background(), list, client.InNamespace(s.namespace)); err != nil {
		s.t.Error(err)
	}
	var all strings.Builder
	for i := range list.Items {
		e := &list.Items[i]
		fmt.Fprintf(&all, "%s %s %s: %s\n", e.Regarding.Name, e.Type, e.Reason, e.Note)
	}
	return all.String()
}
