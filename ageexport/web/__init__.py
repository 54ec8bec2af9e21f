"""Model files in a browser: a JavaScript library that gives the answers of `ageinfer`, under ``site/lib``.

Its modules run the shipped files unchanged in onnxruntime-web. Each one says which module of `ageinfer` it follows.
"""
