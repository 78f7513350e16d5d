"""Embeds a store and clusters its superpatches with pandas and scikit-learn, without labels.

`python examples/embed_and_cluster.py RUN STORE FEATURES.parquet [CLUSTERS]`
"""

import sys
from pathlib import Path

import pandas as pd
from sklearn.cluster import KMeans
from sklearn.preprocessing import StandardScaler

from maesil import pipeline


def main(run: str, store: Path, out: Path, clusters: int = 4) -> pd.DataFrame:
    """Returns one row per superpatch: scan, position in mm, and cluster."""
    pipeline.embed(run, store, out)
    table = pd.read_parquet(out).query("level == 'superpatch'")
    vectors = StandardScaler().fit_transform(table.filter(regex=r"^f\d+$"))
    found = KMeans(clusters, n_init=10, random_state=0).fit_predict(vectors)
    return table[["scan_id", "dataset", "x_mm", "y_mm", "z_mm"]].assign(cluster=found)


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(f"usage: {__doc__.split('`')[1]}")
    grouped = main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), *map(int, sys.argv[4:5]))
    print(pd.crosstab(grouped["dataset"], grouped["cluster"]))
    for cluster, rows in grouped.groupby("cluster"):
        print(f"cluster {cluster}: {len(rows)} regions of {rows['scan_id'].nunique()} scans, such as")
        print(rows.head(3).to_string(index=False))
