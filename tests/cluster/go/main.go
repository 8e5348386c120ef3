// All of Kubernetes in one static program, which acts as the one whose name it is called by: they share most of their
// code, so one program is built, kept and read from disk faster than eight.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/coredns/caddy"
	_ "github.com/coredns/coredns/core/dnsserver"
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubectl "k8s.io/kubectl/pkg/cmd"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

func main() {
	switch name := filepath.Base(os.Args[0]); name {
	case "coredns":
		os.Exit(coredns(os.Args[1:]))
	case "etcd":
		etcdmain.Main(os.Args)
	case "kube-apiserver":
		os.Exit(cli.Run(apiserver.NewAPIServerCommand()))
	case "kube-controller-manager":
		os.Exit(cli.Run(controllers.NewControllerManagerCommand()))
	case "kube-proxy":
		os.Exit(cli.Run(proxy.NewProxyCommand()))
	case "kube-scheduler":
		os.Exit(cli.Run(scheduler.NewSchedulerCommand()))
	case "kubectl":
		os.Exit(cli.Run(kubectl.NewDefaultKubectlCommand()))
	case "kubelet":
		os.Exit(cli.Run(kubelet.NewKubeletCommand(context.Background())))
	default:
		fmt.Fprintf(os.Stderr, "there is no %s in here: call this program by the name of a part of Kubernetes\n", name)
		os.Exit(2)
	}
}

// coredns serves what the Corefile says. CoreDNS' own main() would bring all of its plugins, and twice the size.
func coredns(args []string) int {
	if len(args) != 2 || args[0] != "-conf" {
		fmt.Fprintln(os.Stderr, "usage: coredns -conf COREFILE")
		return 2
	}
	text, err := os.ReadFile(args[1])
	if err == nil {
		caddy.AppName = "CoreDNS"
		caddy.TrapSignals()
		var server *caddy.Instance
		if server, err = caddy.Start(caddy.CaddyfileInput{Contents: text, Filepath: args[1], ServerTypeName: "dns"}); err == nil {
			server.Wait()
			return 0
		}
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}
