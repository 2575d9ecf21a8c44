"""Who may do what, and who did: tokens and certificates, roles, the audit trail."""
