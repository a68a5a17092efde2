// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"testing"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
)

func TestTheCAIsPublishedWhereThereAreEndpoints(t *testing.T) {
	s := newStand(t)
	published := func() map[string]string {
		o := &corev1.ConfigMap{}
		if err := s.client.Get(t.Context(), client.ObjectKey{Namespace: s.namespace, Name: "webhooks-ca"}, o); err != nil {
			return nil
		}
		return o.Data
	}
	s.Consistently(published, "300ms").Should(BeNil(), "no endpoint, no ConfigMap")
	s.bundle.set("") // not known yet
	o := s.create("a", "https://nowhere.test/", onRequest)
	s.untilCondition("a", v1alpha1.ConditionAccepted, metav1.ConditionFalse, v1alpha1.ReasonHostNotFound)
	s.Expect(published()).To(BeNil())
	s.bundle.set("bundle one")
	s.Eventually(published).Should(Equal(map[string]string{"ca.crt": "bundle one"}))

	edit := func(data map[string]string) {
		s.Expect(s.client.Update(t.Context(), &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "webhooks-ca"}, Data: data})).To(Succeed())
	}
	edit(map[string]string{"ca.crt": "somebody's"})
	s.Eventually(published).Should(HaveKeyWithValue("ca.crt", "bundle one"))
	edit(nil)
	s.Eventually(published).Should(HaveKeyWithValue("ca.crt", "bundle one"))
	edit(map[string]string{"ca.crt": "bundle one", "more": "of somebody's"})
	s.bundle.set("bundle two")
	edit(map[string]string{"ca.crt": "bundle one", "more": "of somebody's else"}) // any news of the namespace has it looked at
	s.Eventually(published).Should(Equal(map[string]string{"ca.crt": "bundle two", "more": "of somebody's else"}))

	s.Expect(s.client.Delete(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "webhooks-ca"}})).To(Succeed())
	s.Eventually(published).Should(HaveKeyWithValue("ca.crt", "bundle two"))
	s.delete(o)
	s.Consistently(published, "300ms").ShouldNot(BeNil(), "pods may still mount it")
}
