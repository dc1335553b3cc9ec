def throughput(r): return {}
def show_throughput(r): return ""
