/// The environment variables that contain connection settings, for programs that connect through libpq.
public enum LibpqVariables {
    /// The variables of libpq (PostgreSQL manual, section 34.15), and of the libraries that it uses for authentication
    /// and encryption.
    ///
    /// Variables that change the encoding or the format of text are not included, because this program determines the
    /// text that such programs read and write.
    public static let names = [
        "PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE", "PGUSER", "PGPASSWORD", "PGPASSFILE", "PGREQUIREAUTH",
        "PGCHANNELBINDING", "PGSERVICE", "PGSERVICEFILE", "PGSYSCONFDIR", "PGOPTIONS", "PGSSLMODE", "PGREQUIRESSL",
        "PGSSLNEGOTIATION", "PGSSLCOMPRESSION", "PGSSLCERT", "PGSSLKEY", "PGSSLCERTMODE", "PGSSLROOTCERT", "PGSSLCRL",
        "PGSSLCRLDIR", "PGSSLSNI", "PGREQUIREPEER", "PGSSLMINPROTOCOLVERSION", "PGSSLMAXPROTOCOLVERSION",
        "PGGSSENCMODE", "PGKRBSRVNAME", "PGGSSLIB", "PGGSSDELEGATION", "PGCONNECT_TIMEOUT", "PGTARGETSESSIONATTRS",
        "PGLOADBALANCEHOSTS", "PGMINPROTOCOLVERSION", "PGMAXPROTOCOLVERSION", "KRB5_CONFIG", "KRB5CCNAME",
        "KRB5_KTNAME", "SSL_CERT_FILE", "SSL_CERT_DIR",
    ]
}
