package cluster_test

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// start starts a control plane and two nodes. They end with the test.
func start(t *testing.T) *cluster {
	t.Helper()
	if *bin == "" {
		t.Fatal("where are the programs? run `make cluster`, or give the test -bin FOLDER")
	}
	c := &cluster{dir: t.TempDir(), bin: *bin}
	var err error
	if c.root, err = filepath.Abs(root); err != nil {
		t.Fatal(err)
	}
	ca := newAuthority(t, c.dir)
	ca.writeKey(t, "tokens", newKey(t))
	for name, who := range map[string][2]string{
		"server":    {"kubernetes", ""},
		"admin":     {"admin", "system:masters"},
		"manager":   {"system:kube-controller-manager", ""},
		"scheduler": {"system:kube-scheduler", ""},
		"kwok":      {"kwok", "system:masters"},
	} {
		ca.issue(t, name, who[0], who[1])
	}
	etcd, api := freePort(t), freePort(t)
	server := "https://127.0.0.1:" + api
	c.env = append(os.Environ(), "KUBECONFIG="+ca.kubeconfig(t, "admin", server), "HOME="+c.dir, "PATH="+c.bin+":"+os.Getenv("PATH"))
	c.startStore(t, ca, etcd)
	c.startAPI(t, ca, etcd, api)
	for name, program := range map[string]string{"manager": "kube-controller-manager", "scheduler": "kube-scheduler"} {
		config := ca.kubeconfig(t, name, server)
		args := []string{"--kubeconfig=" + config, "--authentication-kubeconfig=" + config, "--authorization-kubeconfig=" + config,
			"--leader-elect=false", "--bind-address=127.0.0.1", "--secure-port=" + freePort(t)}
		if name == "manager" {
			args = append(args, "--use-service-account-credentials", "--root-ca-file="+ca.file("ca.crt"), "--service-account-private-key-file="+ca.file("tokens.key"))
		}
		c.spawn(t, program, args...)
	}
	c.startNodes(t, ca.kubeconfig(t, "kwok", server))
	return c
}

// startStore starts etcd. It need not survive a power cut.
func (c *cluster) startStore(t *testing.T, ca *authority, port string) {
	t.Helper()
	client, peer := "https://127.0.0.1:"+port, "http://127.0.0.1:"+freePort(t)
	c.spawn(t, "etcd", "--data-dir="+filepath.Join(c.dir, "etcd"), "--unsafe-no-fsync", "--log-level=warn",
		"--listen-client-urls="+client, "--advertise-client-urls="+client,
		"--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer, "--initial-cluster=default="+peer,
		"--client-cert-auth", "--trusted-ca-file="+ca.file("ca.crt"), "--cert-file="+ca.file("server.crt"), "--key-file="+ca.file("server.key"))
}

// startAPI starts the API server with the admission that it has by default, pod security among it, and awaits it.
func (c *cluster) startAPI(t *testing.T, ca *authority, etcd, port string) {
	t.Helper()
	c.spawn(t, "kube-apiserver", "--etcd-servers=https://127.0.0.1:"+etcd,
		"--etcd-cafile="+ca.file("ca.crt"), "--etcd-certfile="+ca.file("server.crt"), "--etcd-keyfile="+ca.file("server.key"),
		"--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none", "--secure-port="+port,
		"--cert-dir="+c.dir, "--tls-cert-file="+ca.file("server.crt"), "--tls-private-key-file="+ca.file("server.key"),
		"--client-ca-file="+ca.file("ca.crt"), "--authorization-mode=Node,RBAC", "--service-cluster-ip-range=10.0.0.0/24",
		"--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file="+ca.file("tokens.pub"),
		"--service-account-signing-key-file="+ca.file("tokens.key"))
	eventually(t, "the API server", func() error {
		out, err := c.try(t, "", "kubectl", "get", "--raw=/readyz")
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
}

// startNodes starts kwok with the stages that its module brings, makes two nodes, and awaits them.
func (c *cluster) startNodes(t *testing.T, kubeconfig string) {
	t.Helper()
	stages := ""
	dir := download(t, "sigs.k8s.io/kwok@v0.8.0") // as kwok.mod has it
	for _, file := range []string{"node/fast/node-initialize", "pod/fast/pod-ready", "pod/fast/pod-complete", "pod/fast/pod-delete"} {
		stages += "---\n" + read(t, filepath.Join(dir, "kustomize", "stage", file+".yaml"))
	}
	c.spawn(t, "kwok", "--kubeconfig="+kubeconfig, "--config="+write(t, filepath.Join(c.dir, "stages.yaml"), stages),
		"--manage-all-nodes", "--node-lease-duration-seconds=40")
	for i, zone := range []string{"a", "b"} {
		node, err := json.Marshal(map[string]any{
			"apiVersion": "v1", "kind": "Node",
			"metadata": map[string]any{
				"name":   "node-" + strconv.Itoa(i+1),
				"labels": map[string]string{"topology.kubernetes.io/zone": zone, "kubernetes.io/hostname": "node-" + strconv.Itoa(i+1), "disk": "fast"},
			},
			"status": map[string]any{
				"allocatable": map[string]string{"cpu": "16", "memory": "64Gi", "pods": "110"},
				"capacity":    map[string]string{"cpu": "16", "memory": "64Gi", "pods": "110"},
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		if out, err := c.try(t, string(node), "kubectl", "create", "-f", "-"); err != nil {
			t.Fatalf("make a node: %v\n%s", err, out)
		}
	}
	c.run(t, "kubectl", "wait", "--for=condition=Ready", "--timeout="+patience.String(), "node", "--all")
}

// spawn starts a program that runs until the test ends, and is killed with it in any case. When the test has failed, the end of its log is shown.
func (c *cluster) spawn(t *testing.T, program string, args ...string) {
	t.Helper()
	file := filepath.Join(c.dir, program+".log")
	log, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(c.bin, program), args...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = log, log, c.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		log.Close()
		if lines := strings.Split(strings.TrimSpace(read(t, file)), "\n"); t.Failed() {
			t.Logf("%s said last:\n%s", program, strings.Join(lines[max(0, len(lines)-15):], "\n"))
		}
	})
}

// freePort is a port of this machine that nobody listened on just now.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}
