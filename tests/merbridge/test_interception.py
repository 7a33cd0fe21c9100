from cluster import *
def test_x(cluster, agent):
    from merbridge.demo.pod import connect
    p=cluster.ztunnel.start_proxy()
    r=cluster.app.call(connect,cluster.server.ip,cluster.server_port,greeting=True)
    print(r,p.records, cluster.counters(), cluster.status())
