"""Model versions as OCI artifacts: pack a folder into an image layout on a volume, and open one after verifying it.

Why our own few lines and no library: oras (oras-py) speaks to registries over HTTP and can copy an image layout to
one, but writes none; olot adds files to a base image that must be there already. An image layout is three kinds of
files, and the part that matters here, handing out nothing that was not verified, would be ours in any case. The
format is the OCI image specification 1.1 (image-layout.md, manifest.md), so oras, skopeo and crane read what we write.
"""
