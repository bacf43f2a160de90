/// The environment variables that a connection's settings may come from, for programs that connect through libpq.
public enum LibpqVariables {
    /// Libpq's own (PostgreSQL manual, section 34.15), and those of the libraries that it authenticates and encrypts with.
    ///
    /// Not those that change how text is encoded and spelled: what such a program reads and writes is this program's.
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
