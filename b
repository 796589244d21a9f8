{"posthouse_backup":1,"schema":1,"version":"0.1.0","at":1795639573.8295414}
{"rows":0}
