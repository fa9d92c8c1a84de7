-- The referral service as three tables with constraints, which DynamoDB does not have.
DROP TABLE IF EXISTS rewards, referrals, codes;

CREATE TABLE codes (
  code       text PRIMARY KEY,
  user_id    text NOT NULL UNIQUE,
  created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz
);

CREATE TABLE referrals (
  id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  referrer_id  text NOT NULL,
  referee_id   text NOT NULL UNIQUE,
  code         text NOT NULL REFERENCES codes (code),
  status       text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'converted', 'rewarded', 'voided')),
  order_id     text,
  created_at   timestamptz NOT NULL DEFAULT now(),
  converted_at timestamptz,
  CHECK (referrer_id <> referee_id)
);
CREATE INDEX idx_referrer ON referrals (referrer_id);

CREATE TABLE rewards (
  id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  referral_id bigint NOT NULL REFERENCES referrals (id),
  beneficiary text NOT NULL,
  kind        text NOT NULL,
  amount      bigint NOT NULL,
  created_at  timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT one_for_each UNIQUE (referral_id, beneficiary)
);
